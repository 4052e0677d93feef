"""The chart on a real cluster, whichever KUBECONFIG names: install, upgrade under load without a
failed call, rollback, `helm test`, pod security "restricted", and the autoscaler. Skipped, with the
reason printed, where there is none.

    KUBECONFIG=~/.kube/config MONET_IMAGE=registry.example/monet-server:0.1.0 ctest -R helm_cluster

MONET_IMAGE is an image of the server, with models/demo and a shell, that the cluster can pull. What
the test makes lies in a namespace of its own, which it deletes.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid

import helm_python
import pytest
import yaml

from chart_render import CHART, ROOT, mask_digest, overlay

MISSING = [reason for present, reason in (
    (os.environ.get("KUBECONFIG"), "KUBECONFIG is not set: there is no cluster to test on"),
    (os.environ.get("MONET_IMAGE"), "MONET_IMAGE is not set: no image that the cluster can pull"),
    (shutil.which("kubectl"), "kubectl is not installed")) if not present]
pytestmark = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))

NAMESPACE = f"monet-test-{uuid.uuid4().hex[:8]}"
RELEASE = "monet"
WAIT = 300  # seconds

LOAD = """
failed=0; done=0; end=$(($(date +%s) + SECONDS_OF_LOAD))
while [ "$(date +%s)" -lt "$end" ]; do
  if /usr/bin/monetctl generate --server monet-demo:50051 --insecure --key-file /key/key \
      --timeout 30 --max-tokens 4 Hello > /dev/null; then done=$((done + 1))
  else failed=$((failed + 1)); fi
done
echo "$done calls, $failed failed"
[ "$done" -gt 0 ] && [ "$failed" -eq 0 ]
"""


def kubectl(*arguments, stdin=None):
    done = subprocess.run(["kubectl", "--namespace", NAMESPACE, *arguments], input=stdin, text=True,
                          capture_output=True, timeout=WAIT + 30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def image():
    repository, _, tag = os.environ["MONET_IMAGE"].rpartition(":")
    return {"repository": repository, "tag": tag}


def values():
    made = subprocess.run(
        [sys.executable, ROOT / "tools/policy_values.py", ROOT / "policies/no-insults"],
        check=True, capture_output=True, text=True).stdout
    return overlay(yaml.safe_load(made), {
        "image": image(),
        "models": {"demo": {
            "replicas": 2,
            "settings": {"kv_tokens": 2048},
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"},
                          "limits": {"memory": "1Gi"}},
            "tenants": {"list": [{"name": "acme", "require": ["no-insults@1"]}],
                        "keysSecret": {"name": "keys"}},
            "test": {"enabled": True, "maskDigest": mask_digest("no-insults"),
                     "keySecret": {"name": "key"}}}}})


def load_pod(seconds):
    context = yaml.safe_load((CHART / "values.yaml").read_text())["modelDefaults"]
    return json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"load-{uuid.uuid4().hex[:6]}"},
        "spec": {
            "restartPolicy": "Never", "securityContext": context["podSecurityContext"],
            "containers": [{
                "name": "load", "image": os.environ["MONET_IMAGE"],
                "command": ["/bin/sh", "-uc", LOAD],
                "env": [{"name": "SECONDS_OF_LOAD", "value": str(seconds)}],
                "securityContext": context["securityContext"],
                "volumeMounts": [{"name": "key", "mountPath": "/key"}]}],
            "volumes": [{"name": "key", "secret": {"secretName": "key", "defaultMode": 0o440}}]}})


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    key = subprocess.run([os.environ["MONETCTL_BINARY"], "key", "new", "--tenant", "acme",
                          "--append", folder / "keys.yaml"],
                         check=True, capture_output=True, text=True).stdout
    (folder / "key").write_text(key)
    subprocess.run(["kubectl", "create", "namespace", NAMESPACE], check=True)
    try:
        kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        kubectl("create", "secret", "generic", "keys", f"--from-file={folder / 'keys.yaml'}")
        kubectl("create", "secret", "generic", "key", f"--from-file={folder / 'key'}")
        with helm_python.Config(namespace=NAMESPACE) as config:
            config.install(CHART, RELEASE, values(), namespace=NAMESPACE, wait="watcher",
                           timeout=WAIT)
            yield config
            config.uninstall(RELEASE)
    finally:
        subprocess.run(["kubectl", "delete", "namespace", NAMESPACE, "--wait=false"], check=True)


def test_helm_test_finds_the_mask(release):
    release.test(RELEASE, timeout=WAIT)


def test_upgrade_and_rollback_under_load_lose_no_call(release):
    pod = load_pod(90)
    name = json.loads(pod)["metadata"]["name"]
    kubectl("apply", "--filename", "-", stdin=pod)
    kubectl("wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={WAIT}s")
    changed = overlay(values(), {"models": {"demo": {"settings": {"max_queue": 100}}}})
    release.upgrade(CHART, RELEASE, changed, namespace=NAMESPACE, wait="watcher", timeout=WAIT)
    release.rollback(RELEASE, wait="watcher", timeout=WAIT)
    kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded",
            f"--timeout={WAIT}s")
    assert " 0 failed" in kubectl("logs", name)


def test_autoscaler_owns_the_replicas_and_sees_the_queue(release):
    scaled = overlay(values(), {"models": {"demo": {
        "autoscaling": {"type": "hpa", "minReplicas": 1, "maxReplicas": 3}}}})
    release.upgrade(CHART, RELEASE, scaled, namespace=NAMESPACE, wait="watcher", timeout=WAIT)
    kubectl("get", "horizontalpodautoscaler", f"{RELEASE}-demo")
    # An upgrade leaves the number that somebody else set.
    kubectl("scale", "deployment", f"{RELEASE}-demo", "--replicas=3")
    release.upgrade(CHART, RELEASE, scaled, namespace=NAMESPACE, wait="watcher", timeout=WAIT)
    found = json.loads(kubectl("get", "deployment", f"{RELEASE}-demo", "--output=json"))
    assert found["spec"]["replicas"] == 3
    metric = (f"/apis/custom.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods/*/"
              "monet_num_requests_waiting")
    done = subprocess.run(["kubectl", "get", "--raw", metric], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("the cluster has no adapter that serves monet_num_requests_waiting")
    assert json.loads(done.stdout)["items"]
