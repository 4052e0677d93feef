#!/usr/bin/env python3
"""How fast the server is in a container of one CPU and 1 GiB, against the same binary with one
computing thread outside: tokens a second of both, and their ratio.

Both serve the demo checkpoint at the same time and take turns, so that what else the machine does
falls on both. A turn is CALLS calls side by side, each of a prompt and TOKENS generated tokens.
Run by `./dev bench-container`; needs root, podman, buildah and mmdebstrap, as the image's tests."""

import argparse
import concurrent.futures
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("MONET_SERVER_BINARY", str(ROOT / "build/release/bin/monet-server"))
sys.path += [str(ROOT / "tests" / area) for area in ("deploy", "e2e")]

import container_image  # noqa: E402
import grpc  # noqa: E402
from server_process import Server, eventually, generate_api  # noqa: E402

LIMITS = ["--cpus", "1", "--memory", "1g"]
SERVE = ["--model", "/models/demo", "--policies", "/etc/monet/policies", "--listen", "127.0.0.1:0"]
PROMPT = "def get_queryset(self):\n    return " * 8
CALLS = 4
TOKENS = 256


class Caller:
    def __init__(self, api, address):
        self._api = api
        self._stub = api.generation_grpc.GenerationServiceStub(grpc.insecure_channel(address))
        self._pool = concurrent.futures.ThreadPoolExecutor(CALLS)

    def _call(self, seed):
        response = self._stub.Generate(self._api.generation.GenerateRequest(
            prompt={"text": PROMPT}, sampling={"seed": seed},
            stopping={"max_tokens": TOKENS, "ignore_eos": True}), timeout=300)
        usage = response.finishes[0].usage
        return usage.prompt_tokens + usage.completion_tokens, response.completions[0].text

    def turn(self):
        """Tokens a second, prompts included, and what was generated."""
        start = time.monotonic()
        results = list(self._pool.map(self._call, range(CALLS)))
        return sum(tokens for tokens, _ in results) / (time.monotonic() - start), [
            text for _, text in results]


def address_in(containers, name):
    if not eventually(lambda: re.search("^ready$", containers.logs(name), re.M), 60):
        sys.exit(f"container_speed: the container does not serve: {containers.logs(name)}")
    printed = containers.logs(name)
    for line in re.findall(r"^  (?:threads|total) .*$", printed, re.M):
        print(f"container:{line}")
    return re.search(r"^  grpc +(\S+)$", printed, re.M).group(1)


def measure(api, containers, rounds, folder):
    outside = Server(folder, "--threads", "1")
    with containers.container(*SERVE, options=LIMITS) as name:
        callers = {"outside": Caller(api, outside.address),
                   "container": Caller(api, address_in(containers, name))}
        texts = {where: caller.turn()[1] for where, caller in callers.items()}  # warms up
        if texts["outside"] != texts["container"]:
            sys.exit("container_speed: the two generate different texts")
        speeds = {where: [] for where in callers}
        for index in range(rounds):
            order = list(callers) if index % 2 == 0 else list(reversed(callers))
            for where in order:
                speeds[where].append(callers[where].turn()[0])
    outside.stop()
    return speeds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each; default 15")
    rounds = parser.parse_args().rounds
    try:
        containers = container_image.containers()
    except container_image.NotHere as reason:
        sys.exit(f"container_speed: no containers on this machine: {reason}")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            speeds = measure(generate_api(folder), containers, rounds, folder)
    finally:
        containers.close()
    for where, values in speeds.items():
        print(f"{where:<10} {statistics.median(values):8.0f} tokens/s, median of {rounds} "
              f"({min(values):.0f} to {max(values):.0f})")
    ratios = [inside / outside for inside, outside in
              zip(speeds["container"], speeds["outside"], strict=True)]
    print(f"ratio      {statistics.median(ratios):8.2f} container / outside, median of the rounds "
          f"({min(ratios):.2f} to {max(ratios):.2f}); the aim is 0.80")


if __name__ == "__main__":
    main()
