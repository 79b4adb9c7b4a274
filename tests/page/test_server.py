"""The address that the page is served at, and what is said of one that can't be."""

import socket

import pytest

from vit_jax import UserError
from vit_jax.page import server


@pytest.mark.parametrize(
    ("host", "shown", "reached"),
    [("127.0.0.1", "127.0.0.1", False), ("localhost", None, False), ("0.0.0.0", "127.0.0.1", True)],
)
def test_listens_at_a_free_port(host, shown, reached):
    with server.listening(host, 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0 and server.is_open(listener) == reached
        assert shown is None or server.url(listener) == f"http://{shown}:{port}"
        with socket.create_connection((host, port)):
            pass


def test_says_what_is_wrong_with_an_address():
    with server.listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"the port {port} is taken; give another one, or --port=0"):
            server.listening("127.0.0.1", port)
    with pytest.raises(UserError, match=r"--host=no\.invalid is no address"):
        server.listening("no.invalid", 0)
    with pytest.raises(UserError, match=r"--host=192\.0\.2\.1 is no address of this machine"):
        server.listening("192.0.2.1", 0)
