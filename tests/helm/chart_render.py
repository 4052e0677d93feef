"""The chart helm/monet, rendered by Helm's own engine, without a cluster."""

import hashlib
import json
import pathlib
import struct
import zlib

import helm_python
import yaml
from helm_python import _native

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/monet"
KUBERNETES = [f"1.{minor}" for minor in range(30, 38)]
CI = {path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text())
      for path in sorted((CHART / "ci").glob("*-values.yaml"))}
NAMESPACE = "models"

_chart = helm_python.Chart.load(CHART)


def overlay(base, over):
    """`over` put over `base` as Helm does with several files of values."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = overlay(result[key], value) if both else value
    return result


def validate_values(values):
    """Raises helm_python.HelmError for what the schema refuses."""
    _chart.validate_schema(values)


def render(values, kubernetes="1.30", release="r"):
    """{template: text}; the values are checked against the schema first, as `helm install` does."""
    validate_values(values)
    options = {"name": release, "namespace": NAMESPACE, "kube_version": f"v{kubernetes}.0",
               "api_versions": ["monitoring.coreos.com/v1", "keda.sh/v1alpha1"]}
    texts = json.loads(_native.call_string(
        "helm_render", _chart._raw(), json.dumps(values), json.dumps(options)))
    return {path.removeprefix("monet/templates/"): text for path, text in texts.items()}


class _Unique(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML libraries keep the last without a word."""


def _mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"duplicate keys in {keys}"
    return loader.construct_mapping(node, deep=True)


_Unique.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def objects(values, **options):
    """Every object that the chart makes, tests included."""
    return [found for path, text in render(values, **options).items() if path != "NOTES.txt"
            for found in yaml.load_all(text, _Unique) if found]


def find(found, kind, suffix=""):
    """The one object of the kind whose name ends so."""
    matches = [one for one in found
               if one["kind"] == kind and one["metadata"]["name"].endswith(suffix)]
    assert len(matches) == 1, [one["metadata"]["name"] for one in matches]
    return matches[0]


def pod_specs(found):
    """(name, spec) of everything that becomes a pod."""
    for one in found:
        if one["kind"] == "Deployment":
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]
        elif one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"]


def server_config(found, model):
    return yaml.safe_load(find(found, "ConfigMap", f"monet-{model}")["data"]["monet.yaml"])


def mask_digest(name):
    """What the mask of a policy's version 1 is by docs/architecture.md: of R, E and the bitmap."""
    folder = ROOT / "policies" / name
    policy = yaml.safe_load((folder / "1.yaml").read_text())
    bitmap = zlib.decompress((folder / "1.mask").read_bytes())
    head = b"monet-mask-1\0" + struct.pack("<II", policy["routers"], policy["experts_per_side"])
    return "sha256:" + hashlib.sha256(head + bitmap).hexdigest()
