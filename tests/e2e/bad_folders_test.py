"""A server refuses a broken model folder, by --check and at the start, in one line and code 2.

What each reader refuses is tested beside it (tests/model, tests/tokenizer); this is the way out.
"""

import json
import os
import pathlib
import shutil
import struct
import subprocess

import pytest

DEMO = pathlib.Path(__file__).resolve().parents[2] / "models/demo"


def _config(**changes):
    def edit(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return edit


def _weights(change):
    """Puts `change` of (header, header's bytes, data) in the place of the file."""
    def edit(folder):
        path = folder / "model.safetensors"
        data = path.read_bytes()
        size, = struct.unpack("<Q", data[:8])
        path.unlink()  # the copy may be read-only
        path.write_bytes(change(json.loads(data[8:8 + size]), data[8:8 + size], data[8 + size:]))
    return edit


def _file(header, data):
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def _first(**changes):
    """The same file but for the entry of the first tensor."""
    def change(header, _, data):
        name = next(name for name in header if name != "__metadata__")
        header[name] = {**header[name], **changes}
        return _file(header, data)
    return _weights(change)


def _tokenizer(change):
    def edit(folder):
        path = folder / "tokenizer.model"
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(change(data))
    return edit


BROKEN = {
    "config: not JSON": ("config.json", lambda f: (f / "config.json").write_text("{")),
    "config: deep": ("config.json", lambda f: (f / "config.json").write_text("[" * 500000)),
    "config: zero": ("config.json", _config(num_hidden_layers=0)),
    "config: negative": ("config.json", _config(moe_heads=-4)),
    "config: huge": ("config.json", _config(hidden_size=2**62)),
    "config: beyond 64 bits": ("config.json", _config(vocab_size=2**70)),
    "config: not the weights'": ("", _config(moe_experts=255)),
    "weights: empty": ("safetensors", _weights(lambda *_: b"")),
    "weights: header longer than the file": (
        "safetensors", _weights(lambda h, raw, d: struct.pack("<Q", 2**63) + raw)),
    "weights: truncated": ("safetensors", _weights(lambda h, raw, d: _file(raw, d[:-1]))),
    "weights: deep JSON": ("safetensors", _weights(lambda h, raw, d: _file(b"[" * 100000, d))),
    "weights: duplicate name": (
        "safetensors", _weights(lambda h, raw, d: _file(
            raw.strip()[:-1] + b"," + json.dumps(h).encode()[1:], d))),
    "weights: reversed offsets": ("safetensors", _first(data_offsets=[4096, 0])),
    "weights: overlapping offsets": ("safetensors", _first(data_offsets=[0, 2**40])),
    "weights: product overflow": ("safetensors", _first(shape=[2**32, 2**32, 2])),
    "weights: shape and bytes": ("safetensors", _first(shape=[3, 7])),
    "weights: unknown dtype": ("safetensors", _first(dtype="F7")),
    "tokenizer: empty": ("tokenizer.model", _tokenizer(lambda data: b"")),
    "tokenizer: truncated": ("tokenizer.model", _tokenizer(lambda data: data[:len(data) // 2])),
    "tokenizer: noise": ("tokenizer.model", _tokenizer(lambda data: b"\xff" * 4096)),
    "tokenizer: missing": ("tokenizer.model", lambda f: (f / "tokenizer.model").unlink()),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_refused(name, tmp_path):
    part, edit = BROKEN[name]
    folder = tmp_path / "model"
    shutil.copytree(DEMO, folder)
    edit(folder)
    lines = []
    for more in (["--check"], []):
        ended = subprocess.run([os.environ["MONET_SERVER_BINARY"], "--model", folder, "--listen",
                                "127.0.0.1:0", *more], capture_output=True, text=True, timeout=30)
        assert ended.returncode == 2, ended
        line, end = ended.stderr.split("\n")
        assert (end, part in line) == ("", True), line
        assert 10 < len(line) < 500
        assert "\nready\n" not in ended.stdout and "\nok\n" not in ended.stdout
        lines.append(line)
    assert lines[0] == lines[1]
