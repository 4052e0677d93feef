"""Containers for the tests: the image of deploy/docker/Dockerfile, built with buildah on a Debian
made by mmdebstrap, and run with podman. No registry is needed; storage lies in the build folder."""

import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["MONET_SERVER_BINARY"]).parents[1]
VERSION = (ROOT / "VERSION").read_text().strip()
IMAGE = f"localhost/monet-server:{VERSION}"
# What `FROM debian:bookworm-slim` means once it is written in full.
BASE = "docker.io/library/debian:bookworm-slim"
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def health_command():
    """The words of HEALTHCHECK, which are the same in both targets."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text().replace("\\\n", "")
    found = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", text, re.M)
    assert len(found) == 2 and found[0] == found[1], found
    return json.loads(found[0])


class NotHere(Exception):
    """This machine does not allow containers; the text says why."""


def _run(arguments, environment=None, timeout=600):
    return subprocess.run([str(word) for word in arguments], capture_output=True, text=True,
                          env=environment, timeout=timeout)


def _last_line(result):
    return (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]


class Containers:
    """podman and buildah with storage of their own."""

    def __init__(self, driver):
        self.folder = BUILD / f"containers-{driver}"
        self.folder.mkdir(exist_ok=True)
        # Sockets lie here, and their paths must be short.
        self._run_root = tempfile.mkdtemp(prefix="monet-")
        (self.folder / "containers.conf").write_text(CONTAINERS_CONF)
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{self.folder}/root"\n'
            f'runroot = "{self._run_root}"\n')
        self._environment = {**os.environ, "CONTAINERS_CONF": f"{self.folder}/containers.conf",
                             "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
                             "TMPDIR": "/tmp"}

    def run(self, *arguments, timeout=600):
        """The finished process, whatever its exit code."""
        return _run(arguments, self._environment, timeout)

    def output(self, *arguments, timeout=600):
        result = self.run(*arguments, timeout=timeout)
        assert result.returncode == 0, f"{arguments}: {result.stderr[-2000:]}"
        return result.stdout.strip()

    def has(self, image):
        return self.run("podman", "image", "exists", image).returncode == 0

    def make_base(self):
        """Debian 12 under the name that the Dockerfile asks for."""
        if self.has(BASE):
            return
        archive = self.folder / "base.tar"
        made = _run(["mmdebstrap", "--variant=minbase", "--include=ca-certificates", "bookworm",
                     archive])
        if made.returncode != 0:
            raise NotHere(f"mmdebstrap cannot make a Debian: {_last_line(made)}")
        self.output("podman", "import", "-q", archive, BASE)
        archive.unlink()

    def probe(self):
        """Raises NotHere unless a container of the base runs, with the limits of the tests."""
        for limits in ([], ["--cpus", "1", "--memory", "1g"]):
            result = self.run("podman", "run", "--rm", "--network", "host", *limits, BASE, "true")
            if result.returncode != 0:
                raise NotHere(f"podman cannot run {' '.join(limits) or 'anything'}: "
                              f"{_last_line(result)}")

    def build(self, target="cpu", *arguments, tag=IMAGE, binaries="prebuilt", timeout=600):
        """Returns the image's id."""
        self.output("buildah", "bud", "-q", "--isolation", "chroot", "--pull-never", "--layers",
                    "--timestamp", "0", "--build-arg", f"BINARIES={binaries}", "--target", target,
                    *arguments, "-f", ROOT / "deploy/docker/Dockerfile", "-t", tag, ROOT,
                    timeout=timeout)
        return self.inspect(tag)["Id"]

    def inspect(self, name):
        """What podman knows of an image or a container."""
        return json.loads(self.output("podman", "inspect", name))[0]

    @contextlib.contextmanager
    def container(self, *arguments, options=()):
        """A running container of the image, on the host's network; yields its id."""
        name = self.output(
            "podman", "run", "-d", "--network", "host", "--read-only", "--read-only-tmpfs=false",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", *options, IMAGE,
            *arguments)
        try:
            yield name
        finally:
            self.output("podman", "rm", "-f", "-t", "0", name)

    def logs(self, name):
        result = self.run("podman", "logs", name)
        return result.stdout + result.stderr

    def close(self):
        self.run("podman", "rm", "-a", "-f", "-t", "0")
        shutil.rmtree(self._run_root, ignore_errors=True)


@functools.cache
def containers():
    """Containers with the image built. Raises NotHere."""
    if os.geteuid() != 0:
        raise NotHere("only root can make the base image")
    for program in ("podman", "buildah", "mmdebstrap", "runc"):
        if shutil.which(program) is None:
            raise NotHere(f"{program} is not installed")
    if BUILD.parent.parent != ROOT:
        raise NotHere("the build folder lies outside the image's context")
    reasons = []
    for driver in ("overlay", "vfs"):
        here = Containers(driver)
        try:
            here.make_base()
            here.probe()
        except NotHere as reason:
            reasons.append(f"{driver}: {reason}")
            here.close()
            continue
        here.build()
        return here
    raise NotHere("; ".join(reasons))
