"""What can be said of deploy/ without a container: linters, and that the files fit together."""

import pathlib
import shutil
import subprocess

import yaml

from container_image import health_command

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy/compose"


def test_the_dockerfile_is_clean():
    result = subprocess.run([ROOT / ".deps/venv/bin/hadolint", ROOT / "deploy/docker/Dockerfile"],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_both_targets_are_there():
    lines = (ROOT / "deploy/docker/Dockerfile").read_text().splitlines()
    targets = {line.split()[-1]: line.split()[1] for line in lines if line.startswith("FROM")}
    assert targets["cpu"] == "${BASE}" and targets["cuda"] == "${CUDA_BASE}"
    # What follows the base is the same for both.
    stages = "\n".join(lines).split("\nFROM ")
    cpu, cuda = ([line for line in stage.splitlines()[1:] if line and line[0] != "#"]
                 for stage in stages[-2:])
    assert cpu == cuda


def test_the_version_is_the_projects():
    version = (ROOT / "VERSION").read_text().strip()
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    assert compose["services"]["server"]["image"] == f"monet-server:{version}"
    assert f"-t monet-server:{version} ." in (ROOT / "deploy/docker/Dockerfile").read_text()


def test_compose_finds_its_files():
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert tag[0].isdigit() or tag[0] == "v", f"{name} has no version"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to other machines"
        for volume in service.get("volumes", []):
            source, _, mode = volume.split(":")
            assert (COMPOSE / source).is_file() and mode == "ro", volume
    build = compose["services"]["server"]["build"]
    assert (COMPOSE / build["context"] / build["dockerfile"]).is_file()
    for service in compose["services"].values():
        depends = service.get("depends_on", [])
        assert set(depends) <= set(compose["services"])
        # One may wait only for the health of a service that has some.
        for other in depends if isinstance(depends, dict) else ():
            if depends[other]["condition"] == "service_healthy":
                assert "test" in compose["services"][other]["healthcheck"]


def test_compose_asks_for_health_as_the_image_does():
    """image_test runs that command."""
    services = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    assert services["server"]["healthcheck"]["test"] == ["CMD", *health_command()]
    tool = services["monetctl"]
    assert tool["entrypoint"] == health_command()[:1]
    assert tool["image"] == services["server"]["image"]
    assert tool["depends_on"] == {"server": {"condition": "service_healthy"}}
    # Its default server is that of the image's own CMD.
    port = tool["environment"]["MONET_SERVER"].removeprefix("server:")
    assert f'"0.0.0.0:{port}"' in (ROOT / "deploy/docker/Dockerfile").read_text()


def test_prometheus_takes_its_configuration(tmp_path):
    promtool = shutil.which("promtool")
    assert promtool, "./dev deps installs it"
    for source in (COMPOSE / "prometheus.yml", ROOT / "helm/monet/files/alerts.yaml"):
        shutil.copy(source, tmp_path)  # side by side, as in the container
    result = subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 rule files found" in result.stdout, result.stdout
    targets = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    host, port = targets["scrape_configs"][0]["static_configs"][0]["targets"][0].split(":")
    assert host in yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    assert f"0.0.0.0:{port}" in (ROOT / "deploy/docker/Dockerfile").read_text()
