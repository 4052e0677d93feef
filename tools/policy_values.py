#!/usr/bin/env python3
"""Writes policy files as values of the chart helm/monet.

    tools/policy_values.py policies/no-insults policies/no-python > policies-values.yaml
    helm upgrade ... --values policies-values.yaml

A folder is a policy and holds VERSION.yaml and, where the policy has one, VERSION.mask. Standard
library only. Exit 1 with one line when a folder is no policy.
"""
import base64
import json
import pathlib
import re
import sys


def policy_values(folders):
    """{"policies": {name: {"versions": {version: {"yaml": text, "mask": base64}}}}}.
    Raises ValueError for a folder that is no policy."""
    policies = {}
    for folder in map(pathlib.Path, folders):
        versions = {}
        for path in sorted(folder.glob("*.yaml")):
            if not re.fullmatch(r"[1-9][0-9]*", path.stem):
                raise ValueError(f"{path}: a policy's files are VERSION.yaml and VERSION.mask")
            versions[path.stem] = {"yaml": path.read_text("utf-8")}
            mask = path.with_suffix(".mask")
            if mask.exists():
                versions[path.stem]["mask"] = base64.b64encode(mask.read_bytes()).decode()
        if not versions:
            raise ValueError(f"{folder}: no VERSION.yaml there")
        name = folder.resolve().name
        if name in policies:
            raise ValueError(f"{folder}: {name} is given twice")
        policies[name] = {"versions": versions}
    return {"policies": policies}


def block(text, indent):
    """A YAML block scalar. The keep indicator holds every trailing newline as it is."""
    lines = text.split("\n")
    if text.startswith((" ", "\n")) or not text.endswith("\n") or "\t" in text:
        return " " + json.dumps(text, ensure_ascii=False) + "\n"
    return " |+\n" + "".join(f"{' ' * indent if line else ''}{line}\n" for line in lines[:-1])


def to_yaml(values):
    out = "policies:\n"
    for name, policy in values["policies"].items():
        out += f"  {name}:\n    versions:\n"
        for version, files in policy["versions"].items():
            out += f'      "{version}":\n        yaml:{block(files["yaml"], 10)}'
            if "mask" in files:
                out += f'        mask: {files["mask"]}\n'
    return out


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.strip())
    try:
        sys.stdout.write(to_yaml(policy_values(sys.argv[1:])))
    except (ValueError, OSError) as error:
        sys.exit(f"policy_values: {error}")


if __name__ == "__main__":
    main()
