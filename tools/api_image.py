#!/usr/bin/env python3
"""Holds the public API to what was released: proto/released/VERSION.binpb is the descriptor image
of the API of that version, and no later one may break it.

    tools/api_image.py lint     # buf lint
    tools/api_image.py check    # every released version has its image, and buf breaking agrees
    tools/api_image.py write    # the image of the version in VERSION, while it is unreleased

CHANGELOG.md says what is released. Needs buf (tests/requirements.txt) beside the interpreter or in
the PATH; nothing is fetched.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEADING = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (.+?)\s*$", re.MULTILINE)


def fail(message):
    sys.exit(f"api_image: {message}")


def buf(root, *arguments):
    """Runs buf in proto/; its findings go to stdout. Returns whether it was content."""
    beside = pathlib.Path(sys.executable).parent / "buf"
    program = str(beside) if beside.exists() else shutil.which("buf")
    if program is None:
        fail("no buf; run: ./dev deps")
    with tempfile.TemporaryDirectory() as cache:
        # buf wants a writable cache, even for a module without dependencies.
        environment = {**os.environ, "BUF_CACHE_DIR": cache}
        return subprocess.run([program, *arguments], cwd=root / "proto",
                              env=environment).returncode == 0


def releases(root):
    """{version: date or "unreleased"} of CHANGELOG.md."""
    return dict(HEADING.findall((root / "CHANGELOG.md").read_text("utf-8")))


def lint(root):
    if not buf(root, "lint", "."):
        fail("proto/ does not pass buf lint")


def check(root):
    images = sorted((root / "proto/released").glob("*.binpb"))
    if not images:
        fail("proto/released has no image")
    for version, date in releases(root).items():
        if date != "unreleased" and root / f"proto/released/{version}.binpb" not in images:
            fail(f"version {version} of {date} has no image in proto/released")
    broken = [image.name for image in images
              if not buf(root, "breaking", ".", "--against", f"released/{image.name}")]
    if broken:
        fail(f"proto/monet/v1 breaks {', '.join(broken)}; see docs/compatibility.md")


def write(root):
    version = (root / "VERSION").read_text("utf-8").strip()
    state = releases(root).get(version)
    if state is None:
        fail(f"CHANGELOG.md has no version {version}")
    if state != "unreleased":
        fail(f"version {version} was released on {state}: its image stays as it is")
    (root / "proto/released").mkdir(exist_ok=True)
    if not buf(root, "build", ".", "--exclude-source-info", "-o", f"released/{version}.binpb"):
        fail("buf build failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("command", choices=["lint", "check", "write"])
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="the repository")
    args = parser.parse_args()
    {"lint": lint, "check": check, "write": write}[args.command](args.root.resolve())


if __name__ == "__main__":
    main()
