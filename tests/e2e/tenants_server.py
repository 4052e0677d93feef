"""A server with tenants for the tests: its files, its keys, and calls made from what reflection
says of the API, so that no method or field can be forgotten."""

import hashlib
import re

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

import server_process

GENERATE = "monet.v1.GenerationService/Generate"
PROMPT = {"prompt": {"text": "def get_queryset(self):"}}
SHORT = {**PROMPT, "stopping": {"max_tokens": 2}}


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


class Server(server_process.Server):
    """The same with tenants.yaml and keys.yaml in a folder of its own. With wait=False it has
    loaded its model and need not be ready."""

    def __init__(self, directory, tenants, keys, more=(), wait=True):
        self.tenants = directory / "tenants.yaml"
        self.keys = directory / "keys.yaml"
        self.tenants.write_text(tenants)
        self.keys.write_text(keys_yaml(keys))
        super().__init__(directory, "--tenants", self.tenants, "--keys", self.keys, *more,
                         started=r"^ready$" if wait else r"^  policies ")
        self.channel = grpc.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def stop(self):
        self.channel.close()
        return super().stop()

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


def generate(server, key, **fields):
    """The only response of Generate."""
    api = Api(server.channel)
    return api.call(GENERATE, api.request(GENERATE, **{**SHORT, **fields}), bearer(key))[0]
