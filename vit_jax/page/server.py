"""Serves the page from this machine alone, unless another address is asked for, and keeps nothing when it ends."""

import errno
import ipaddress
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from vit_jax.errors import UserError

_SECONDS = 1  # how long the end waits for answers that are being computed


def listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens at a host's address and a port; at a free port if `port` is 0.

    Raises UserError if there is no such address, or the port is taken or not allowed.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except socket.gaierror:
        raise UserError(f"--host={host} is no address that this machine knows; leave it out for 127.0.0.1") from None
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"the port {port} is taken; give another one, or --port=0 for one that is free",
            errno.EACCES: f"the port {port} is not allowed to you; give one from 1024 on, or --port=0",
            errno.EADDRNOTAVAIL: f"--host={host} is no address of this machine; leave it out for 127.0.0.1",
        }
        raise UserError(reasons.get(error.errno or 0, f"{host}:{port} can't be opened ({error.strerror})")) from None


def is_open(listener: socket.socket) -> bool:
    """Returns whether a socket can be reached from other machines."""
    return not ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def url(listener: socket.socket) -> str:
    """Returns the address to open in a browser of this machine."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def prepare(folder: str) -> None:
    """Sets what gradio reads from the environment: its folder for uploads, and that it must call nobody.

    It is called before gradio is imported.
    """
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def serve(page: Any, listener: socket.socket, ready: Callable[[], None], **looks: Any) -> None:
    """Serves a page of gradio until Ctrl-C or SIGTERM.

    Args:
        page: the page.
        listener: what `listening` returns.
        ready: is called before the first answer.
        looks: `theme`, `css` and `max_file_size`, as `gradio.mount_gradio_app` takes them.
    """
    import fastapi
    import gradio
    import uvicorn

    # Without gradio's own `launch`, which looks for a port itself and asks its own server by HTTP, proxies included.
    app = fastapi.FastAPI(openapi_url=None)
    app = gradio.mount_gradio_app(app, page, path="/", footer_links=[], run_history=False, ssr_mode=False, **looks)
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=_SECONDS)
    ready()
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises the signal again when it has ended
        pass


def interrupt_at_sigterm() -> None:
    """Makes SIGTERM end this process as Ctrl-C does, so that its temporary files are removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
