"""The image as a stranger builds it: compiled within, from the clone alone. Takes that long."""

from container_image import IMAGE


def test_the_image_compiles_its_own_server(containers):
    tag = IMAGE + "-source"
    # Machines behind a proxy have certificates of their own.
    trusted = "/etc/ssl/certs/ca-certificates.crt"
    containers.build("cpu", "--volume", f"{trusted}:{trusted}:ro", tag=tag, binaries="source",
                     timeout=3000)
    listing = containers.output("podman", "run", "--rm", "--network", "host", tag, "--check",
                                "--model", "/models/demo", "--policies", "/etc/monet/policies")
    assert listing.splitlines()[-1] == "ok"
