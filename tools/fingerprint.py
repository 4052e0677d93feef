#!/usr/bin/env python3
"""Prints the fingerprint of a Monet checkpoint, as runtime/model/fingerprint.h defines it.

An implementation of its own, standard library only: it reads safetensors by hand and shares no
code with the server, so that the two check each other.

    tools/fingerprint.py models/demo
"""
import argparse
import hashlib
import json
import pathlib
import struct
import sys

CONFIG_KEYS = (
    "hidden_act hidden_size moe_decompose moe_dim moe_experts moe_groups moe_heads moe_topk "
    "num_attention_heads num_hidden_layers num_key_value_heads rms_norm_eps rope_theta "
    "tie_word_embeddings vocab_size").split()
# The defaults that config.json may leave out.
CONFIG_DEFAULTS = {"hidden_act": "relu2", "tie_word_embeddings": False}
FLOAT_KEYS = ("rms_norm_eps", "rope_theta")
MAX_HEADER = 100 << 20


def read_safetensors(path):
    """Yields (name, dtype, shape, bytes) of one file, in the order of its header."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_HEADER:
            raise ValueError(f"{path}: header of {length} bytes, limit {MAX_HEADER}")
        header = json.loads(file.read(length))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            data = file.read(end - begin)
            if len(data) != end - begin:
                raise ValueError(f"{path}: {name} ends beyond the file")
            yield name, entry["dtype"], entry["shape"], data


def checkpoint_files(directory):
    index = directory / "model.safetensors.index.json"
    if index.exists():
        return sorted({directory / f for f in json.loads(index.read_text())["weight_map"].values()})
    return [directory / "model.safetensors"]


def canonical_config(config):
    """The `key=value` lines of the fields that enter the maths."""
    config = {**CONFIG_DEFAULTS, **config}
    if config.get("num_key_value_heads") is None:
        config["num_key_value_heads"] = config["num_attention_heads"]
    lines = []
    for key in CONFIG_KEYS:
        value = config[key]
        if key in FLOAT_KEYS:
            value = "%.17g" % value
        elif isinstance(value, bool):
            value = "true" if value else "false"
        lines.append(f"{key}={value}\n")
    return "".join(lines)


def is_ignored(name, tied):
    return (name.endswith(".num_batches_tracked") or name.endswith("rotary_emb.inv_freq")
            or (tied and name == "lm_head.weight"))


def u32(value):
    return struct.pack("<I", value)


def string(text):
    data = text.encode()
    return u32(len(data)) + data


def fingerprint(directory):
    """Returns "sha256:" and 64 hexadecimal digits."""
    directory = pathlib.Path(directory)
    config = json.loads((directory / "config.json").read_text())
    tied = bool(config.get("tie_word_embeddings", False))
    tensors = {}
    for path in checkpoint_files(directory):
        for name, dtype, shape, data in read_safetensors(path):
            if not is_ignored(name, tied):
                tensors[name.encode()] = (name, dtype, shape, hashlib.sha256(data).digest())
    digest = hashlib.sha256(b"monet-model-1\0" + u32(len(tensors)))
    for _, (name, dtype, shape, data_digest) in sorted(tensors.items()):
        digest.update(string(name) + string(dtype) + u32(len(shape)))
        digest.update(b"".join(u32(n) for n in shape) + data_digest)
    digest.update(string(canonical_config(config)))
    return "sha256:" + digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=pathlib.Path, help="holds config.json and the weights")
    try:
        print(fingerprint(parser.parse_args().directory))
    except (OSError, ValueError, KeyError, struct.error) as error:
        sys.exit(f"fingerprint: {error}")


if __name__ == "__main__":
    main()
