#!/usr/bin/env python3
"""Prints the README's table of perplexity ratios: what each policy does to each label's text.

Scores every text of a folder (LABEL.txt) without a policy and under every policy no-LABEL, with
`monetctl score` against a running server, and prints Markdown: rows are policies, columns are
labels, a cell is perplexity under the policy divided by perplexity without it.

    ./dev serve &
    tools/perplexity_table.py examples/samples
"""

import argparse
import json
import pathlib
import subprocess
import sys


def score(args, text, policy=None):
    command = [args.monetctl, "score", "--server", args.server, "--json", "--text-file", str(text)]
    if policy:
        command += ["--policy", policy]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(result.stderr.strip())
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="folder with LABEL.txt files")
    parser.add_argument("--server", default="127.0.0.1:50051", help="address of the server")
    parser.add_argument("--monetctl", default="build/release/bin/monetctl", help="the client")
    args = parser.parse_args()

    texts = sorted(args.folder.glob("*.txt"))
    plain = {text.stem: score(args, text) for text in texts}
    labels = list(plain)
    print("| policy | " + " | ".join(labels) + " |")
    print("|---|" + "---:|" * len(labels))
    print("| *tokens* | " + " | ".join(f"*{plain[x]['tokens']}*" for x in labels) + " |")
    print("| *none, perplexity* | "
          + " | ".join(f"*{plain[x]['perplexity']:.1f}*" for x in labels) + " |")
    for policy in labels:
        cells = []
        for text in texts:
            ratio = score(args, text, f"no-{policy}")["perplexity"] / plain[text.stem]["perplexity"]
            cells.append(f"**×{ratio:.2f}**" if text.stem == policy else f"×{ratio:.2f}")
        print(f"| no-{policy} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
