"""Running the gateway: a socket on the loopback interface, uvicorn on it, a clean stop on SIGTERM and SIGINT."""

import asyncio
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

_FINISH_S = 10  # requests under way get what an acknowledgement may take, then connections are cut


class ListenError(OSError):
    """The gateway cannot or will not listen at an address; the text says what to do."""


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A listening socket; ``option`` is what an error names to choose another port.

    Raises ListenError where the port is taken or the address is not a loopback address.
    """
    family = _loopback(host)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with {option}") from error
    return listener


def _loopback(host: str) -> socket.AddressFamily:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ListenError(f"--host {host} is not an address: use 127.0.0.1 or ::1") from error
    if not address.is_loopback:
        raise ListenError(
            f"will not listen on {host}: there is no authentication yet, so only 127.0.0.1 and ::1 are allowed"
        )
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET


def address(listener: socket.socket) -> str:
    """The URL at which a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first."""
    server(app, on_ready).run(sockets=[listener])


def server(app: FastAPI, on_ready: Callable[[], None]) -> uvicorn.Server:
    """What serves; setting its ``should_exit`` ends it as a signal does."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # its lines would hold patient ids
        server_header=False,
        timeout_graceful_shutdown=_FINISH_S,
    )
    return _Server(config, on_ready, app)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], app: FastAPI) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A stream has no end of its own: without a word from us it would be waited for, and then cut.
        if (end_streams := getattr(self._app.state, "end_streams", None)) is not None:
            await asyncio.to_thread(end_streams)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again at the end, which would kill the process before its caller cleans up.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
