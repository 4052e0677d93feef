"""Fixtures of the tests in Python."""

import pytest

from server_process import generate_api


@pytest.fixture(scope="session")
def api(tmp_path_factory):
    """The generated modules of proto/monet/v1."""
    return generate_api(tmp_path_factory.mktemp("stubs"))
