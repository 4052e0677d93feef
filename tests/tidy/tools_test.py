#!/usr/bin/env python3
"""The scripts of tools/: policies from bitmaps, fingerprints, and the committed policies."""
import hashlib
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import fingerprint  # noqa: E402

MODEL = "sha256:" + "ab" * 32


def write_safetensors(path, tensors):
    """tensors: {name: (dtype, shape, bytes)}, written in this order."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class ConvertPoliciesTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.directory.name)

    def tearDown(self):
        self.directory.cleanup()

    def convert(self, tensors, name="no-x", experts_per_side=3):
        path = self.root / f"{name}.safetensors"
        write_safetensors(path, tensors)
        return subprocess.run(
            [sys.executable, "-B", ROOT / "tools/convert_policies.py", "--model", MODEL,
             "--experts-per-side", str(experts_per_side), "--out", self.root / "out",
             "--target-from-name", "--rule", "ratio", "--ratio", "2.0", path],
            capture_output=True, text=True)

    def test_keeps_the_bits_and_repeats_itself(self):
        bitmap = bytes([0b10000001, 0b1, 0, 0])  # R = 2, E = 3: 9 experts in 2 bytes
        first = self.convert({"removed": ("U8", [2, 2], bitmap)})
        self.assertEqual(first.returncode, 0, first.stderr)
        mask = self.root / "out/no-x/1.mask"
        text = (self.root / "out/no-x/1.yaml").read_text()
        self.assertEqual(zlib.decompress(mask.read_bytes()), bitmap)
        self.assertIn(hashlib.sha256(bitmap).hexdigest(), text)
        self.assertIn("name: no-x\nversion: 1\n", text)
        self.assertIn("(3 experts, 16.67 %)", text)
        self.assertIn("routers: 2\nexperts_per_side: 3\n", text)
        self.assertIn("built: {rule: ratio, ratio: 2.0, target: x}\n", text)
        before = mask.read_bytes(), text
        self.assertEqual(self.convert({"removed": ("U8", [2, 2], bitmap)}).stdout, first.stdout)
        self.assertEqual((mask.read_bytes(), (self.root / "out/no-x/1.yaml").read_text()), before)

    def test_refuses_what_is_no_mask(self):
        good = ("U8", [1, 2], b"\1\0")
        cases = {
            "padding bits": {"removed": ("U8", [1, 2], b"\0\2")},
            "expected U8": {"removed": ("I8", [1, 2], b"\0\0")},
            "expected U8 [R, 2]": {"removed": ("U8", [1, 3], b"\0\0\0")},
            "expected the tensor `removed`": {"removed": good, "other": good},
        }
        for message, tensors in cases.items():
            with self.subTest(message=message):
                result = self.convert(tensors)
                self.assertEqual(result.returncode, 1)
                self.assertIn(message, result.stderr)
        self.assertIn("is no policy name", self.convert({"removed": good}, name="No_X").stderr)


class FingerprintTest(unittest.TestCase):
    CONFIG = {
        "hidden_act": "relu2", "hidden_size": 8, "moe_decompose": "vertical", "moe_dim": 2,
        "moe_experts": 4, "moe_groups": 1, "moe_heads": 1, "moe_topk": 2, "num_attention_heads": 2,
        "num_hidden_layers": 1, "rms_norm_eps": 1e-6, "rope_theta": 10000, "vocab_size": 16,
    }
    TENSORS = {"a": ("F32", [2], b"\0" * 8), "b": ("BF16", [1, 2], b"\1" * 4)}

    def fingerprint(self, config=None, tensors=None, shards=None):
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            (root / "config.json").write_text(json.dumps({**self.CONFIG, **(config or {})}))
            tensors = self.TENSORS if tensors is None else tensors
            if shards:
                weight_map = {name: f"shard-{n}.safetensors"
                              for n, names in enumerate(shards) for name in names}
                (root / "model.safetensors.index.json").write_text(
                    json.dumps({"weight_map": weight_map}))
                for n, names in enumerate(shards):
                    write_safetensors(root / f"shard-{n}.safetensors",
                                      {name: tensors[name] for name in names})
            else:
                write_safetensors(root / "model.safetensors", tensors)
            return fingerprint.fingerprint(root)

    def test_follows_content_only(self):
        plain = self.fingerprint()
        same = [
            self.fingerprint(shards=[["b"], ["a"]]),
            self.fingerprint(tensors=dict(reversed(self.TENSORS.items()))),
            self.fingerprint({"num_key_value_heads": 2, "torch_dtype": "float32"}),
            self.fingerprint({"rope_theta": 10000.0}),
            self.fingerprint(tensors={**self.TENSORS,
                                      "x.num_batches_tracked": ("I64", [], b"\0" * 8)}),
        ]
        self.assertEqual(set(same), {plain})
        other = [
            self.fingerprint({"moe_topk": 1}),
            self.fingerprint({"rms_norm_eps": 1e-5}),
            self.fingerprint(tensors={**self.TENSORS, "a": ("F32", [2], b"\0" * 7 + b"\1")}),
            self.fingerprint(tensors={**self.TENSORS, "b": ("BF16", [2, 1], b"\1" * 4)}),
        ]
        self.assertEqual(len({plain, *other}), 5)


class CommittedPoliciesTest(unittest.TestCase):
    def test_are_for_the_demo_model_and_whole(self):
        model = fingerprint.fingerprint(ROOT / "models/demo")
        files = sorted((ROOT / "policies").glob("*/*.yaml"))
        self.assertEqual(len(files), 12)
        for file in files:
            with self.subTest(policy=file.parent.name):
                text = file.read_text()
                self.assertIn(f"model: {model}\n", text)
                mask, digest = re.search(
                    r"experts: \{file: (\S+), sha256: ([0-9a-f]{64})\}", text).groups()
                bitmap = zlib.decompress((file.parent / mask).read_bytes())
                self.assertEqual(len(bitmap), 2 * 256 * 256 // 8)
                self.assertEqual(hashlib.sha256(bitmap).hexdigest(), digest)


if __name__ == "__main__":
    unittest.main()
