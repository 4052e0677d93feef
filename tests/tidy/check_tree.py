#!/usr/bin/env python3
"""Checks the rules of the tree that a compiler does not: who may include whom, sizes, names, and
that no backend op is without a parity case. Prints `file:line: what is wrong` and exits 1 on a
finding.

    tests/tidy/check_tree.py [ROOT]

Standard library only; walks the folders, so it needs no git. The rules are explained in
docs/architecture.md ("Layers").
"""
import os
import pathlib
import re
import sys

CPP = {".h", ".cc", ".inc", ".cu", ".cuh"}
CODE = CPP | {".proto", ".py", ".sh"}
MAX_LINES = 500
MAX_COLUMNS = 100
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}
# Not part of the source: build trees, installed dependencies, editors' folders.
SKIPPED_FOLDERS = {"build", "Testing", "__pycache__", "node_modules"}
KEPT_HIDDEN_FOLDERS = {".ci", ".github"}
MAX_TEXT_BYTES = 1 << 20

# Paths of somebody's machine, in pieces so that this file passes its own check.
MACHINE_PATHS = ["/" + "work/", "../" + "shared"]

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
OP = re.compile(r"virtual void (\w+)\(const (\w+)&")

# For each layer (a folder), the includes it may not have, as prefixes of the included path.
GRPC = ("grpc", "google/protobuf", "google/rpc", "monet/v1/", "health/v1/")
FORBIDDEN_INCLUDES = {
    "kernels/": GRPC + ("runtime/", "server/", "cli/", "absl/", "fmt/", "spdlog/", "yaml-cpp/",
                        "nlohmann/", "prometheus/", "fstream", "filesystem", "fcntl.h",
                        "sys/stat.h"),
    "runtime/": GRPC + ("server/", "cli/", "prometheus/", "httplib.h", "CLI/"),
    # The scheduler is a pure state machine: time, threads and files stay outside.
    "runtime/sched/": ("thread", "mutex", "condition_variable", "fstream", "filesystem", "time.h",
                       "ctime"),
    "server/": ("cli/",),
    "cli/": ("server/",),
}
# Headers that only one folder may see, wherever else the layers would allow it.
ONE_FOLDER_ONLY = {
    "sentencepiece": "runtime/tokenizer/",
    "absl/strings/": "runtime/base/",
}
ALLOWED_ANYWHERE = {"absl/strings/cord.h"}  # the type of an absl::Status payload
# <chrono> gives the scheduler durations; reading a clock is the engine's.
READS_CLOCK = re.compile(r"_clock::now|clock_gettime|sleep_for|sleep_until")
SOURCE_FOLDERS = ("kernels/", "runtime/", "server/", "cli/")


def walk(root):
    """Yields paths relative to root, with forward slashes, sorted."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(
            name for name in subfolders if name not in SKIPPED_FOLDERS
            and (not name.startswith(".") or name in KEPT_HIDDEN_FOLDERS))
        for name in sorted(files):
            if name == ".git":  # a worktree's pointer to its repository
                continue
            yield (pathlib.Path(folder) / name).relative_to(root).as_posix()


def read_text(path):
    """Returns the text, or None for what is no text or too large to be source."""
    if path.is_symlink() or path.stat().st_size > MAX_TEXT_BYTES:
        return None
    data = path.read_bytes()
    if b"\0" in data:
        return None
    return data.decode("utf-8", errors="replace")


def starts_with(included, prefix):
    """Prefixes that end in / or name a file match as they are; `grpc` also matches grpcpp/."""
    if prefix.endswith("/") or prefix in ("grpc", "google/protobuf", "google/rpc", "sentencepiece"):
        return included.startswith(prefix)
    return included == prefix


def runtime_order(root):
    """The areas of runtime/ in the order of its CMakeLists.txt, where earlier may not see later."""
    cmake = root / "runtime/CMakeLists.txt"
    text = cmake.read_text("utf-8") if cmake.exists() else ""
    match = re.search(r"foreach\(area ([\w\s]+)\)", text)
    return match.group(1).split() if match else []


def check_include(file, included, order):
    for layer, prefixes in FORBIDDEN_INCLUDES.items():
        if file.startswith(layer):
            for prefix in prefixes:
                if starts_with(included, prefix):
                    yield f"{layer} may not include {included}"
    if file.startswith(SOURCE_FOLDERS) and included not in ALLOWED_ANYWHERE:
        for prefix, folder in ONE_FOLDER_ONLY.items():
            if starts_with(included, prefix) and not file.startswith(folder):
                yield f"only {folder} may include {included}"
    if file.startswith("runtime/") and included.startswith("runtime/"):
        mine, theirs = file.split("/")[1], included.split("/")[1]
        if mine in order and theirs in order and order.index(theirs) > order.index(mine):
            yield f"runtime/{mine} may not include {included}: {theirs} comes later"


def check_file(file, text, order):
    """Yields (line, message) for one text file."""
    suffix = pathlib.PurePosixPath(file).suffix
    lines = text.splitlines()
    if suffix in CODE and len(lines) > MAX_LINES:
        yield len(lines), f"{len(lines)} lines, limit {MAX_LINES}"
    for number, line in enumerate(lines, 1):
        for path in MACHINE_PATHS:
            if path in line:
                yield number, f"names a path of one machine: {path}"
        if suffix in CPP | {".py"} and len(line) > MAX_COLUMNS:
            yield number, f"{len(line)} columns, limit {MAX_COLUMNS}"
        if suffix not in CPP:
            continue
        if file.startswith("runtime/sched/") and READS_CLOCK.search(line):
            yield number, "runtime/sched/ may not read a clock"
        match = INCLUDE.match(line)
        if match:
            for message in check_include(file, match.group(1), order):
                yield number, message


def check_names(file):
    for part in pathlib.PurePosixPath(file).parts:
        if part.split(".")[0].lower() in VAGUE_NAMES:
            yield 1, f"{part} says nothing about its content"


def check_parity(root):
    """Every op of kernels/backend.h must be named by a parity case of tests/kernels."""
    header = root / "kernels/backend.h"
    if not header.exists():
        return
    cases = "\n".join(
        path.read_text("utf-8") for path in sorted((root / "tests/kernels").glob("*_cases.cc")))
    ops = OP.findall(header.read_text("utf-8"))
    if not ops:
        yield "kernels/backend.h", 1, "no ops of the form `virtual void Op(const OpArgs&` found"
    for op, _ in ops:
        if not re.search(rf'return "{op}";', cases):
            yield "kernels/backend.h", 1, f"op {op} has no case in tests/kernels/*_cases.cc"


def check_tree(root):
    """Returns the findings as `file:line: message`."""
    root = pathlib.Path(root)
    findings = []
    order = runtime_order(root)
    for file in walk(root):
        findings += [f"{file}:{line}: {message}" for line, message in check_names(file)]
        text = read_text(root / file)
        if text is not None:
            findings += [f"{file}:{line}: {message}"
                         for line, message in check_file(file, text, order)]
    findings += [f"{file}:{line}: {message}" for file, line, message in check_parity(root)]
    return findings


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    if not (root / "CMakeLists.txt").exists():
        sys.exit(f"check_tree: {root} is not the repository's root")
    findings = check_tree(root)
    print("\n".join(findings) if findings else "the tree follows its rules")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
