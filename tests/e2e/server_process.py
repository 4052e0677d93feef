"""A monet-server as a process, and the API's generated modules, for the tests in Python."""

import importlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

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
        policy = importlib.import_module("monet.v1.policy_pb2")
        policy_grpc = importlib.import_module("monet.v1.policy_pb2_grpc")

    return Modules


class Server:
    """A server process on free ports. With wait=False it may still be loading."""

    def __init__(self, directory, *arguments, listen="127.0.0.1:0", wait=True):
        self.log = directory / "out"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                [os.environ["MONET_SERVER_BINARY"], "--model", ROOT / "models/demo",
                 "--policies", ROOT / "policies", "--listen", listen, *arguments],
                stdout=out, stderr=subprocess.DEVNULL)
        self.address = self._wait_for(r"^  grpc +(\S+)$").group(1)
        if wait:
            self._wait_for(r"^ready$")

    def _wait_for(self, pattern):
        deadline = time.monotonic() + 30
        while True:
            found = re.search(pattern, self.log.read_text(), re.M)
            if found:
                return found
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)
