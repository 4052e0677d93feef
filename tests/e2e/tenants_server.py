"""A server with tenants for the tests: its files, its keys, and calls made from what reflection
says of the API, so that no method or field can be forgotten."""

import hashlib
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.request

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

ROOT = pathlib.Path(__file__).resolve().parents[2]


def eventually(condition, seconds=15):
    """Waits until condition() holds; False when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def bearer(key):
    return (("authorization", f"Bearer {key}"),)


def replace(path, text):
    """As a person with an editor or Kubernetes would: the file is whole at every moment."""
    beside = path.with_suffix(".tmp")
    beside.write_text(text)
    beside.rename(path)


def keys_yaml(keys):
    """keys: {key: tenant}"""
    entries = [f"- tenant: {tenant}\n  sha256: {hashlib.sha256(key.encode()).hexdigest()}\n"
               for key, tenant in keys.items()]
    return "keys:\n" + "".join(entries) if entries else "keys: []\n"


class Server:
    """A server process on free ports with tenants.yaml and keys.yaml in a folder of its own."""

    def __init__(self, directory, tenants, keys, more=(), wait=True):
        self.tenants = directory / "tenants.yaml"
        self.keys = directory / "keys.yaml"
        self.out = directory / "out"
        self.err = directory / "err"
        self.tenants.write_text(tenants)
        self.keys.write_text(keys_yaml(keys))
        arguments = [os.environ["MONET_SERVER_BINARY"], "--model", ROOT / "models/demo",
                     "--policies", ROOT / "policies", "--listen", "127.0.0.1:0",
                     "--tenants", self.tenants, "--keys", self.keys, *more]
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(arguments, stdout=out, stderr=err)
        started = "\nready\n" if wait else "\n  policies "
        assert eventually(lambda: started in self.out.read_text() or self.ended(), 30)
        assert not self.ended(), self.err.read_text()
        self.address = self.printed("grpc")
        self.channel = grpc.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def printed(self, name):
        return re.search(rf"^  {name} +(\S+)$", self.out.read_text(), re.M).group(1)

    def ended(self):
        return self.process.poll() is not None

    def stop(self):
        self.channel.close()
        if not self.ended():
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def metrics(self):
        """{sample: value}"""
        with urllib.request.urlopen(self.printed("metrics"), timeout=10) as page:
            lines = page.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
                for line in lines if line and not line.startswith("#")}

    def metric(self, name, **labels):
        """The sum of the samples that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(value for sample, value in self.metrics().items()
                   if re.match(rf"{name}(\{{|$)", sample) and all(w in sample for w in wanted))

    def health(self):
        answer = health_pb2_grpc.HealthStub(self.channel).Check(
            health_pb2.HealthCheckRequest(), timeout=10)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


class Api:
    """Every method of monet.v1 that a server has, by reflection."""

    def __init__(self, channel):
        self.channel = channel
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        self.methods = {}
        for service in database.get_services():
            if service.startswith("monet."):
                for method in pool.FindServiceByName(service).methods:
                    self.methods[f"{service}/{method.name}"] = method

    def request(self, name, **fields):
        return message_factory.GetMessageClass(self.methods[name].input_type)(**fields)

    def call(self, name, request, metadata=()):
        """Makes the call. Returns its messages, one for a unary method. Raises grpc.RpcError."""
        method = self.methods[name]
        response = message_factory.GetMessageClass(method.output_type)
        serialise = type(request).SerializeToString
        kind = {(False, False): self.channel.unary_unary, (False, True): self.channel.unary_stream,
                (True, True): self.channel.stream_stream}[
                    (method.client_streaming, method.server_streaming)]
        make = kind(f"/{name}", serialise, response.FromString)
        argument = iter([request]) if method.client_streaming else request
        answer = make(argument, timeout=60, metadata=metadata)
        return list(answer) if method.server_streaming else [answer]


def reason_of(error):
    """(reason, retry delay in seconds or None) of an RpcError."""
    reason, delay = None, None
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        if detail.Unpack(retry):
            delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return reason, delay


def refusal(make_call):
    """The reason with which the call is refused; "OK" when it is not."""
    try:
        make_call()
    except grpc.RpcError as error:
        return reason_of(error)[0] or error.code().name
    return "OK"
