import socket

import pytest


@pytest.fixture
def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as opened:
        opened.bind(("localhost", 0))
        return str(opened.getsockname()[1])
