"""Strict schemas of the fields of custom resources that the chart uses, written from their
documentation: Prometheus operator's monitoring.coreos.com/v1 and KEDA's keda.sh/v1alpha1."""


def _object(required=(), **properties):
    return {"type": "object", "additionalProperties": False, "properties": properties,
            "required": list(required)}


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_SELECTOR = _object(["matchLabels"], matchLabels=_TEXTS)
_DURATION = {"type": "string", "pattern": "^(0|[0-9]+(ms|s|m|h|d))$"}
_COUNT = {"type": "integer", "minimum": 0}
_METADATA = _object(["name"], name={"type": "string"}, labels=_TEXTS, annotations=_TEXTS)
_POLICIES = {"type": "array", "items": _object(
    ["type", "value", "periodSeconds"], type={"enum": ["Pods", "Percent"]}, value=_COUNT,
    periodSeconds=_COUNT)}
_SCALING = _object(
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    selectPolicy={"enum": ["Max", "Min", "Disabled"]}, policies=_POLICIES)
_RULE = _object(
    ["alert", "expr", "labels", "annotations"], alert={"type": "string"}, expr={"type": "string"},
    labels=_TEXTS, annotations=_TEXTS, **{"for": _DURATION, "keep_firing_for": _DURATION})


def _resource(api_version, kind, spec):
    return {"$schema": "https://json-schema.org/draft/2020-12/schema",
            **_object(["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": api_version},
                      kind={"const": kind}, metadata=_METADATA, spec=spec)}


SCHEMAS = {
    "ServiceMonitor": _resource("monitoring.coreos.com/v1", "ServiceMonitor", _object(
        ["selector", "endpoints"], selector=_SELECTOR,
        endpoints={"type": "array", "minItems": 1, "items": _object(
            ["port"], port={"type": "string"}, interval=_DURATION, path={"type": "string"})})),
    "PrometheusRule": _resource("monitoring.coreos.com/v1", "PrometheusRule", _object(
        ["groups"], groups={"type": "array", "minItems": 1, "items": _object(
            ["name", "rules"], name={"type": "string"}, interval=_DURATION,
            rules={"type": "array", "minItems": 1, "items": _RULE})})),
    "ScaledObject": _resource("keda.sh/v1alpha1", "ScaledObject", _object(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=_object(["name"], name={"type": "string"}),
        minReplicaCount=_COUNT, maxReplicaCount=_COUNT, pollingInterval=_COUNT,
        advanced=_object(horizontalPodAutoscalerConfig=_object(
            behavior=_object(scaleDown=_SCALING, scaleUp=_SCALING))),
        triggers={"type": "array", "minItems": 1, "items": _object(
            ["type", "metadata"], type={"const": "prometheus"},
            metricType={"enum": ["AverageValue", "Value"]},
            metadata=_object(["serverAddress", "query", "threshold"],
                             serverAddress={"type": "string", "pattern": "^https?://"},
                             query={"type": "string"},
                             threshold={"type": "string", "pattern": "^[0-9]+$"}))})),
}
