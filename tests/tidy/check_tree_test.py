#!/usr/bin/env python3
"""Each rule of check_tree.py, on small trees: one that follows it and one that breaks it."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

from check_tree import MACHINE_PATHS, check_tree

CHECKER = pathlib.Path(__file__).parent / "check_tree.py"

CLEAN = {
    "CMakeLists.txt": "project(x)\n",
    "runtime/CMakeLists.txt": "foreach(area base tokenizer policy sched engine)\n",
    "kernels/backend.h": "struct Backend {\n  virtual void Embed(const EmbedArgs& args) = 0;\n};\n",
    "kernels/cpu/embed.cc": '#include <immintrin.h>\n\n#include "kernels/backend.h"\n',
    "runtime/base/status.h": '#include "absl/strings/cord.h"\n#include "kernels/backend.h"\n',
    "runtime/tokenizer/tokenizer.cc": "#include <sentencepiece_processor.h>\n",
    "runtime/engine/engine.cc": '#include <chrono>\n#include "runtime/sched/scheduler.h"\n',
    "server/main.cc": '#include <grpcpp/grpcpp.h>\n#include "runtime/engine/engine.h"\n',
    "cli/main.cc": '#include "monet/v1/generation.grpc.pb.h"\n',
    "tests/kernels/dense_cases.cc": 'std::string Op() const override { return "Embed"; }\n',
    ".ci/run": "exec ./dev test\n",
}


class CheckTreeTest(unittest.TestCase):
    def findings(self, changes):
        """Findings of the clean tree with `changes` (path -> text, or None to leave a file out)."""
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            for name, text in {**CLEAN, **changes}.items():
                if text is not None:
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    (root / name).write_text(text, "utf-8")
            return check_tree(root)

    def assert_finding(self, changes, expected):
        findings = self.findings(changes)
        self.assertEqual(len(findings), 1, findings)
        self.assertIn(expected, findings[0])

    def test_clean_tree_has_no_findings(self):
        self.assertEqual(self.findings({}), [])

    def test_layers(self):
        cases = [
            ("kernels/a.cc", '#include "runtime/limits.h"', "kernels/ may not include runtime/"),
            ("kernels/a.cc", '#include "absl/status/status.h"', "kernels/ may not include absl/"),
            ("kernels/cpu/a.cc", "#include <fstream>", "kernels/ may not include fstream"),
            ("kernels/a.h", "#include <grpcpp/grpcpp.h>", "kernels/ may not include grpcpp/"),
            ("runtime/base/a.h", "#include <grpcpp/alarm.h>", "runtime/ may not include grpcpp/"),
            ("runtime/base/a.h", '#  include "monet/v1/mask.pb.h"', "may not include monet/v1/"),
            ("runtime/base/a.h", "#include <google/protobuf/any.h>", "may not include google/"),
            ("runtime/engine/a.cc", '#include "server/options.h"', "may not include server/"),
            ("runtime/engine/a.cc", '#include "cli/options.h"', "runtime/ may not include cli/"),
            ("server/a.cc", '#include "cli/options.h"', "server/ may not include cli/"),
            ("cli/a.cc", '#include "server/options.h"', "cli/ may not include server/"),
        ]
        for file, line, expected in cases:
            with self.subTest(line=line, file=file):
                self.assert_finding({file: line + "\n"}, expected)

    def test_one_folder_headers(self):
        self.assert_finding({"server/a.cc": "#include <sentencepiece_processor.h>\n"},
                            "only runtime/tokenizer/ may include")
        self.assert_finding({"runtime/policy/a.cc": '#include "absl/strings/str_cat.h"\n'},
                            "only runtime/base/ may include")

        self.assertEqual(self.findings({"server/a.cc": '#include "absl/strings/cord.h"\n'}), [])

    def test_scheduler_is_pure(self):
        for header in ("ctime", "thread", "mutex"):
            self.assert_finding({"runtime/sched/a.cc": f"#include <{header}>\n"},
                                f"runtime/sched/ may not include {header}")
        self.assertEqual(self.findings({"runtime/sched/a.cc": "#include <chrono>\n"}), [])
        self.assert_finding({"runtime/sched/a.cc": "auto t = std::chrono::steady_clock::now();\n"},
                            "may not read a clock")

    def test_order_within_runtime(self):
        self.assert_finding({"runtime/policy/a.cc": '#include "runtime/engine/engine.h"\n'},
                            "engine comes later")

    def test_lines_and_columns(self):
        self.assertEqual(self.findings({"server/a.cc": "//\n" * 500}), [])
        self.assert_finding({"server/a.cc": "//\n" * 501}, "501 lines, limit 500")
        # Columns are characters, not bytes.
        self.assertEqual(self.findings({"server/a.cc": "//" + "·" * 98 + "\n"}), [])
        self.assert_finding({"server/a.cc": "//" + "·" * 99 + "\n"}, "101 columns, limit 100")

    def test_vague_names(self):
        for name in ("server/utils.h", "server/Helpers.cc", "runtime/common/a.h", "tests/util.py"):
            self.assert_finding({name: "\n"}, "says nothing")
        self.assertEqual(self.findings({"server/common_name.h": "\n"}), [])

    def test_parity_case_of_every_op(self):
        two_ops = CLEAN["kernels/backend.h"] + "virtual void Route(const RouteArgs& args) = 0;\n"
        self.assert_finding({"kernels/backend.h": two_ops}, "op Route has no case")
        self.assert_finding({"tests/kernels/dense_cases.cc": None}, "op Embed has no case")
        # A call elsewhere is no parity case.
        self.assert_finding({"tests/kernels/dense_cases.cc": "EmbedArgs args;\n",
                             "tests/kernels/other_test.cc": "backend->Embed(args);\n"},
                            "op Embed has no case")
        self.assert_finding({"kernels/backend.h": "// empty\n"}, "no ops of the form")

    def test_machine_paths(self):
        for path in MACHINE_PATHS:
            self.assert_finding({"docs/a.md": f"see\nfile {path}x\n"}, "docs/a.md:2: names a path")
            self.assert_finding({".ci/run": f"cat {path}x\n"}, ".ci/run:1: names a path")

    def test_what_is_not_source_is_skipped(self):
        bad = f"{MACHINE_PATHS[0]}x\n"
        self.assertEqual(
            self.findings({"build/a.cc": bad, ".deps/utils.h": bad, "models/m.bin": "\0" + bad}),
            [])

    def test_exit_status(self):
        with tempfile.TemporaryDirectory() as directory:
            command = [sys.executable, CHECKER, directory]
            self.assertNotEqual(subprocess.run(command, capture_output=True).returncode, 0)
            (pathlib.Path(directory) / "CMakeLists.txt").write_text("")
            self.assertEqual(subprocess.run(command, capture_output=True).returncode, 0)
            (pathlib.Path(directory) / "utils.h").write_text("")
            self.assertEqual(subprocess.run(command, capture_output=True).returncode, 1)


if __name__ == "__main__":
    unittest.main()
