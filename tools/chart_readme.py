#!/usr/bin/env python3
"""Makes helm/monet/README.md from Chart.yaml and the comments of values.yaml.

    tools/chart_readme.py            writes it
    tools/chart_readme.py --check    exits 1 when it is out of date

A comment that begins with "# --" describes the key below it, to the end of the comment; a key
without one is a group. Needs PyYAML, from the environment that ./dev deps makes.
"""
import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).resolve().parents[1] / "helm/monet"
KEY = re.compile(r"^( *)([A-Za-z0-9_.-]+):")

HEAD = """# The chart `monet`

{description}.
Version {version}, for monet-server {appVersion} on Kubernetes {kubeVersion}.

[docs/kubernetes.md](../../docs/kubernetes.md) goes from nothing to two tenants with different
policies and says how to change a policy and a model; [docs/runbook.md](../../docs/runbook.md) has
what to do about each alert.

```sh
helm install monet helm/monet \\
  --set image.repository=REGISTRY/monet-server --set models.demo.allowAnonymous=true
```

What stands under `modelDefaults` holds for every model and can be said otherwise under
`models.NAME`. The chart checks values against [values.schema.json](values.schema.json), and what no
schema can say when it renders. `ci/` has values for each way to use it.

| key | default | |
|---|---|---|
"""
FOOT = "\nMade from values.yaml by `tools/chart_readme.py`.\n"


def comments(text):
    """Yields (path, description) for every key with a "# --" comment."""
    path, said = [], None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            said = stripped.removeprefix("# --").strip()
        elif stripped.startswith("#"):
            said = None if said is None else f"{said} {stripped.lstrip('# ')}"
        elif match := KEY.match(line):
            depth = len(match[1]) // 2
            path[depth:] = [match[2]]
            if said is not None:
                yield tuple(path), said
            said = None
        elif not stripped:
            said = None


def value_at(values, path):
    for key in path:
        values = values[key]
    return values


def cell(text):
    return text.replace("|", "\\|")


def readme():
    text = (CHART / "values.yaml").read_text("utf-8")
    values = yaml.safe_load(text)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    out = HEAD.format(**chart)
    for path, said in comments(text):
        default = json.dumps(value_at(values, path), ensure_ascii=False)
        out += f"| `{'.'.join(path)}` | `{cell(default)}` | {cell(said)} |\n"
    return out + FOOT


def main():
    target = CHART / "README.md"
    made = readme()
    if sys.argv[1:] == ["--check"]:
        if not target.exists() or target.read_text("utf-8") != made:
            sys.exit(f"{target} is out of date: run tools/chart_readme.py")
    elif not sys.argv[1:]:
        target.write_text(made, "utf-8")
    else:
        sys.exit(__doc__.strip())


if __name__ == "__main__":
    main()
