"""Running the gateway: a socket, on the loopback interface unless callers are known; uvicorn; a clean stop."""

import asyncio
import ipaddress
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.config import LOGGING_CONFIG

_FINISH_S = 10  # requests under way get what an acknowledgement may take, then connections are cut


class ListenError(OSError):
    """The gateway cannot or will not listen at an address; the text says what to do."""


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A listening socket; ``option`` is what an error names to choose another port.

    Raises ListenError where the port is taken or the host is no address.
    """
    family = socket.AF_INET6 if _address(host).version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with {option}") from error
    return listener


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ListenError(f"--host {host} is not an address: use 127.0.0.1, ::1, or one of this machine") from error


def loopback_of(host: str) -> str:
    """The address itself where it is a loopback address, else the loopback's of its family. Raises ListenError."""
    found = _address(host)
    return host if found.is_loopback else "::1" if found.version == 6 else "127.0.0.1"


def check_exposure(host: str, *, authenticated: bool, encrypted: bool) -> None:
    """Raise ListenError for an address that others reach, unless they are asked who they are, and nobody listens in."""
    if _address(host).is_loopback:
        return
    if not authenticated:
        raise ListenError(f"will not listen on {host} for everybody: add --require-key, or make a key with `ward keys`")
    if not encrypted:
        raise ListenError(
            f"will not listen on {host} in clear: give --tls-certificate and --tls-key, or --behind-tls-proxy where a"
            " proxy ends TLS and nobody else reaches this address"
        )


@dataclass(frozen=True)
class Tls:
    """Files in PEM: the certificate chain and its private key."""

    certificate: Path
    key: Path


def tls(certificate: Path | None, key: Path | None) -> Tls | None:
    """What HTTPS is served with; None: it is not. Raises ListenError where the files do not serve."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ListenError("--tls-certificate and --tls-key go together")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ListenError(f"{certificate} and {key} are not a certificate and its key: {error}") from error
    return Tls(certificate, key)


def address(listener: socket.socket, tls: Tls | None = None) -> str:
    """The URL at which a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def run(app: FastAPI, listener: socket.socket, on_ready: Callable[[], None], tls: Tls | None = None) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first."""
    server(app, on_ready, tls).run(sockets=[listener])


def server(app: FastAPI, on_ready: Callable[[], None], tls: Tls | None = None) -> uvicorn.Server:
    """What serves; setting its ``should_exit`` ends it as a signal does."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        # Where a form of log lines was chosen, uvicorn's are of it too.
        log_config=None if logging.getLogger().handlers else LOGGING_CONFIG,
        access_log=False,  # its lines would hold patient ids
        server_header=False,
        timeout_graceful_shutdown=_FINISH_S,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else str(tls.key),
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
