#!/usr/bin/env python3
"""Writes docs/api.md, the reference of the public API, from the comments of proto/monet/v1.

    .deps/venv/bin/python tools/api_docs.py [--check] [--proto DIR] [--out FILE]

`./dev api` calls it; --check compares instead of writing and exits 1 on a difference. Needs
grpcio-tools (tests/requirements.txt) for protoc and the descriptor messages.
"""
import argparse
import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2

ROOT = pathlib.Path(__file__).resolve().parents[1]
Field = descriptor_pb2.FieldDescriptorProto
# Path components of SourceCodeInfo: field numbers in descriptor.proto.
SYNTAX, MESSAGE, ENUM, SERVICE = 12, 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_ONEOF = 2, 3, 4, 8
ENUM_VALUE, SERVICE_METHOD = 2, 2

HEAD = """\
# API reference

<!-- Written by tools/api_docs.py from the comments of proto/monet/v1: edit those, run ./dev api -->

Package `monet.v1`. The sources are in [proto/monet/v1](../proto/monet/v1); what may change between
versions is in [compatibility.md](compatibility.md). The server also has `grpc.health.v1` (Check and
Watch) and reflection.

How a field tells "absent" from a value, in the tables' column *presence*:

| presence | meaning |
|---|---|
| `optional` | absent and the zero value differ; absent is the default that the description names |
| `message` | a message, which may be absent |
| `oneof NAME` | at most one field of this name is set |
| `repeated` | a list; absent is the empty list |
| `map` | pairs; absent is the empty map |
| `value` | absent is the zero value: 0, false, empty, the enumeration's first |
"""


def build(proto):
    """The FileDescriptorProtos of DIR/monet/v1, by name, with their comments."""
    names = sorted(path.relative_to(proto).as_posix() for path in proto.glob("monet/v1/*.proto"))
    if not names:
        sys.exit(f"api_docs: no monet/v1/*.proto in {proto}")
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "descriptors"
        # A process of its own: protoc in this one could print errors to nowhere.
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={proto}",
                   "--include_source_info", f"--descriptor_set_out={out}", *names]
        if subprocess.run(command).returncode != 0:
            sys.exit("api_docs: protoc failed")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file


def escape(text):
    """Markdown's own characters outside of `code`; a table's bar everywhere."""
    pieces = re.split(r"(`[^`]*`)", text)
    for n in range(0, len(pieces), 2):
        pieces[n] = re.sub(r"([\\*\[\]])", r"\\\1", pieces[n]).replace("<", "&lt;")
    return "".join(pieces).replace("|", r"\|")


class Comments:
    """Leading comments of one file by path; a declaration without one is an error."""

    def __init__(self, file):
        self.file = file
        self.locations = {tuple(place.path): place for place in file.source_code_info.location}

    def paragraphs(self, text):
        parts = re.split(r"\n\s*\n", text.strip())
        return [escape(" ".join(part.split())) for part in parts if part.strip()]

    def of_file(self):
        place = self.locations.get((SYNTAX,))
        texts = [*place.leading_detached_comments, place.leading_comments] if place else []
        found = [paragraph for text in texts for paragraph in self.paragraphs(text)]
        if not found:
            sys.exit(f"api_docs: {self.file.name} has no comment before its syntax line")
        return found

    def of(self, path, name):
        place = self.locations.get(tuple(path))
        found = self.paragraphs(place.leading_comments) if place else []
        if not found:
            sys.exit(f"api_docs: {self.file.name}: {name} has no comment")
        return found

    def line(self, path, name):
        return " ".join(self.of(path, name))


def link(type_name):
    """`.monet.v1.Policy` as a link to its heading."""
    name = type_name.removeprefix(".monet.v1.")
    return f"[{name}](#{name.replace('.', '').lower()})"


def scalar(field):
    return Field.Type.Name(field.type).removeprefix("TYPE_").lower()


def type_of(field, maps):
    if field.type_name in maps:
        key, value = maps[field.type_name].field
        return f"map of {type_of(key, maps)} to {type_of(value, maps)}"
    if field.type in (Field.TYPE_MESSAGE, Field.TYPE_ENUM):
        return link(field.type_name)
    return scalar(field)


def presence_of(field, message, maps):
    if field.type_name in maps:
        return "`map`"
    if field.label == Field.LABEL_REPEATED:
        return "`repeated`"
    if field.proto3_optional:
        return "`optional`"
    if field.HasField("oneof_index"):
        return f"`oneof {message.oneof_decl[field.oneof_index].name}`"
    return "`message`" if field.type == Field.TYPE_MESSAGE else "`value`"


def reserved_line(message):
    numbers = [str(r.start) if r.end == r.start + 1 else f"{r.start} to {r.end - 1}"
               for r in message.reserved_range]
    names = [f"`{name}`" for name in message.reserved_name]
    return f"Reserved: {', '.join(numbers + names)}." if numbers or names else None


def render_enum(enum, path, comments, name):
    lines = [f"### {name}", "", "\n\n".join(comments.of(path, name)), "",
             "| value | number | description |", "|---|---:|---|"]
    for n, value in enumerate(enum.value):
        text = comments.line([*path, ENUM_VALUE, n], f"{name}.{value.name}")
        lines.append(f"| `{value.name}` | {value.number} | {text} |")
    return lines + [""]


def render_message(message, path, comments, name, full_name):
    maps = {f"{full_name}.{nested.name}": nested for nested in message.nested_type
            if nested.options.map_entry}
    lines = [f"### {name}", "", "\n\n".join(comments.of(path, name)), ""]
    if message.field:
        lines += ["| field | number | type | presence | description |", "|---|---:|---|---|---|"]
    else:
        lines.append("No fields.")
    for n, field in enumerate(message.field):
        text = comments.line([*path, MESSAGE_FIELD, n], f"{name}.{field.name}")
        lines.append(f"| `{field.name}` | {field.number} | {type_of(field, maps)} | "
                     f"{presence_of(field, message, maps)} | {text} |")
    lines.append("")
    chosen = {field.oneof_index for field in message.field
              if field.HasField("oneof_index") and not field.proto3_optional}
    for n in sorted(chosen):
        oneof = message.oneof_decl[n].name
        text = comments.line([*path, MESSAGE_ONEOF, n], f"{name}.{oneof}")
        lines += [f"`oneof {oneof}`: {text}", ""]
    reserved = reserved_line(message)
    if reserved:
        lines += [reserved, ""]
    for n, enum in enumerate(message.enum_type):
        lines += render_enum(enum, [*path, MESSAGE_ENUM, n], comments, f"{name}.{enum.name}")
    for n, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            lines += render_message(nested, [*path, MESSAGE_NESTED, n], comments,
                                    f"{name}.{nested.name}", f"{full_name}.{nested.name}")
    return lines


def render_service(service, path, comments):
    lines = [f"### {service.name}", "",
             "\n\n".join(comments.of(path, service.name)), "",
             "| method | request | response | description |", "|---|---|---|---|"]
    for n, method in enumerate(service.method):
        text = comments.line([*path, SERVICE_METHOD, n], f"{service.name}.{method.name}")
        request = "stream of " * method.client_streaming + link(method.input_type)
        response = "stream of " * method.server_streaming + link(method.output_type)
        lines.append(f"| `{method.name}` | {request} | {response} | {text} |")
    return lines + [""]


def render_file(file):
    comments = Comments(file)
    lines = [f"## {pathlib.PurePosixPath(file.name).name}", "",
             "\n\n".join(comments.of_file()), ""]
    for n, service in enumerate(file.service):
        lines += render_service(service, [SERVICE, n], comments)
    for n, message in enumerate(file.message_type):
        lines += render_message(message, [MESSAGE, n], comments, message.name,
                                f".{file.package}.{message.name}")
    for n, enum in enumerate(file.enum_type):
        lines += render_enum(enum, [ENUM, n], comments, enum.name)
    return lines


def render(files):
    # Files with the most methods first: a reader comes for them.
    files = sorted(files, key=lambda file: (-sum(len(s.method) for s in file.service), file.name))
    lines = HEAD.split("\n")
    lines += ["| service | method | |", "|---|---|---|"]
    for file in files:
        comments = Comments(file)
        for s, service in enumerate(file.service):
            for m, method in enumerate(service.method):
                text = comments.line([SERVICE, s, SERVICE_METHOD, m], method.name)
                lines.append(f"| [{service.name}](#{service.name.lower()}) | `{method.name}` | "
                             f"{text} |")
    lines.append("")
    for file in files:
        lines += render_file(file)
    return "\n".join(lines).rstrip("\n") + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--proto", type=pathlib.Path, default=ROOT / "proto")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/api.md")
    args = parser.parse_args()
    text = render(build(args.proto))
    before = args.out.read_text("utf-8") if args.out.exists() else ""
    if not args.check:
        if text != before:
            args.out.write_text(text, "utf-8")
        return
    if text != before:
        sys.stdout.writelines(difflib.unified_diff(
            before.splitlines(True), text.splitlines(True), str(args.out), "proto comments"))
        sys.exit(f"api_docs: {args.out} is out of date; run: ./dev api")


if __name__ == "__main__":
    main()
