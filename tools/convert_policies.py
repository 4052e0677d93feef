#!/usr/bin/env python3
"""Turns expert masks in safetensors files into policy files.

Every input NAME.safetensors holds one uint8 tensor `removed` of shape [R, ceil(E*E/8)]: bit k of
byte b set means that expert 8b + k = i*E + j of that router group is removed. It becomes
OUT/NAME/VERSION.yaml and OUT/NAME/VERSION.mask in the format of runtime/policy/policy.h. The bits
are kept exactly, and the same input gives the same output, byte for byte (with the same zlib).

    tools/convert_policies.py --model sha256:... --experts-per-side 256 --target-from-name \\
        --rule ratio --ratio 2.0 --tokens 40960 --out policies masks/no-*.safetensors

Standard library only.
"""
import argparse
import hashlib
import pathlib
import re
import struct
import sys
import zlib

from fingerprint import read_safetensors, u32

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MODEL = re.compile(r"sha256:[0-9a-f]{64}")


def read_mask(path, experts_per_side):
    """Returns (R, bitmap). Refuses anything but one well-formed `removed` tensor."""
    tensors = list(read_safetensors(path))
    if [name for name, *_ in tensors] != ["removed"]:
        raise ValueError(f"{path}: expected the tensor `removed` and no other")
    _, dtype, shape, bitmap = tensors[0]
    experts = experts_per_side * experts_per_side
    row = (experts + 7) // 8
    if dtype != "U8" or len(shape) != 2 or shape[1] != row or len(bitmap) != shape[0] * row:
        raise ValueError(f"{path}: `removed` is {dtype} {shape}, expected U8 [R, {row}]")
    padding = 8 * row - experts
    if padding and any(bitmap[r * row + row - 1] >> (8 - padding) for r in range(shape[0])):
        raise ValueError(f"{path}: padding bits are set")
    return shape[0], bitmap


def policy_digest(model, routers, experts_per_side, bitmap):
    """The digest of runtime/policy/policy.h, printed so that a reader can compare."""
    data = (b"monet-policy-1\0" + b"zero\0" + bytes.fromhex(model.removeprefix("sha256:"))
            + u32(routers) + u32(experts_per_side) + bitmap)
    return "sha256:" + hashlib.sha256(data).hexdigest()


def built_record(args, target):
    record = []
    if args.rule:
        record.append(f"rule: {args.rule}")
    if args.ratio is not None:
        record.append(f"ratio: {args.ratio}")
    if target:
        record.append(f"target: {target}")
    if args.tokens is not None:
        record.append(f"tokens_per_label: {args.tokens}")
    return "built: {" + ", ".join(record) + "}\n" if record else ""


def policy_text(args, name, target, routers, bitmap):
    removed = sum(byte.bit_count() for byte in bitmap)
    share = 100 * removed / (routers * args.experts_per_side**2)
    what = f"the experts that serve text labelled {target}" if target else "a set of experts"
    return (f"format: 1\n"
            f"name: {name}\n"
            f"version: {args.version}\n"
            f"description: Removes {what} ({removed} experts, {share:.2f} %).\n"
            f"model: {args.model}\n"
            f"semantics: zero\n"
            f"routers: {routers}\n"
            f"experts_per_side: {args.experts_per_side}\n"
            f"experts: {{file: {args.version}.mask, sha256: "
            f"{hashlib.sha256(bitmap).hexdigest()}}}\n"
            f"{built_record(args, target)}")


def convert(args, path):
    name = path.name.removesuffix(".safetensors")
    if not NAME.fullmatch(name):
        raise ValueError(f"{path}: {name!r} is no policy name")
    target = name.removeprefix("no-") if args.target_from_name else None
    routers, bitmap = read_mask(path, args.experts_per_side)
    directory = args.out / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{args.version}.mask").write_bytes(zlib.compress(bitmap, 9))
    (directory / f"{args.version}.yaml").write_text(
        policy_text(args, name, target, routers, bitmap))
    print(f"{name}@{args.version} "
          f"{policy_digest(args.model, routers, args.experts_per_side, bitmap)}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("masks", nargs="+", type=pathlib.Path, help="NAME.safetensors")
    parser.add_argument("--model", required=True, help="fingerprint (tools/fingerprint.py)")
    parser.add_argument("--experts-per-side", required=True, type=int, help="E, moe_experts")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="policies directory")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--rule", help="how the masks were made, for the record")
    parser.add_argument("--ratio", type=float)
    parser.add_argument("--tokens", type=int, help="training tokens a label")
    parser.add_argument("--target-from-name", action="store_true", help="no-LABEL: target LABEL")
    args = parser.parse_args()
    if not MODEL.fullmatch(args.model):
        parser.error("--model: expected sha256: and 64 lower-case hexadecimal digits")
    if args.version < 1 or args.experts_per_side < 1:
        parser.error("--version and --experts-per-side start at 1")
    return args


def main():
    args = parse_arguments()
    try:
        for path in args.masks:
            convert(args, path)
    except (OSError, ValueError, KeyError, struct.error) as error:
        sys.exit(f"convert_policies: {error}")


if __name__ == "__main__":
    main()
