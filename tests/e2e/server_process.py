"""A monet-server as a process, and the API's generated modules, for the tests in Python."""

import importlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]


def generate_api(out):
    """Makes Python modules of proto/monet/v1 in `out` and returns them."""
    protos = sorted(str(path.relative_to(ROOT / "proto"))
                    for path in (ROOT / "proto/monet/v1").glob("*.proto"))
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main(arguments + protos) == 0
    sys.path.insert(0, str(out))

    class Modules:
        generation = importlib.import_module("monet.v1.generation_pb2")
        generation_grpc = importlib.import_module("monet.v1.generation_pb2_grpc")
        expert = importlib.import_module("monet.v1.expert_pb2")
        model = importlib.import_module("monet.v1.model_pb2")
        policy = importlib.import_module("monet.v1.policy_pb2")
        policy_grpc = importlib.import_module("monet.v1.policy_pb2_grpc")

    return Modules


def eventually(condition, seconds=15):
    """Waits until condition() holds; False when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Server:
    """A server process on free ports, which has printed `started` (a regular expression)."""

    def __init__(self, directory, *arguments, listen="127.0.0.1:0", started=r"^ready$",
                 policies=ROOT / "policies", cwd=None):
        self.out = directory / "out"
        self.err = directory / "err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                [os.environ["MONET_SERVER_BINARY"], "--model", ROOT / "models/demo",
                 "--policies", policies, "--listen", listen, *arguments],
                stdout=out, stderr=err, cwd=cwd)
        assert eventually(lambda: self._find(started) or self.ended(), 30)
        assert not self.ended(), self.err.read_text()
        self.address = self.printed("grpc")

    def _find(self, pattern):
        return re.search(pattern, self.out.read_text(), re.M)

    def printed(self, name):
        return self._find(rf"^  {name} +(\S+)$").group(1)

    def ended(self):
        return self.process.poll() is not None

    def stop(self):
        if not self.ended():
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def metrics(self):
        """{sample: value}"""
        with urllib.request.urlopen(self.printed("metrics"), timeout=10) as page:
            lines = page.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
                for line in lines if line and not line.startswith("#")}
