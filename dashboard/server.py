"""Running the dashboard: Streamlit in this process, on the loopback interface, without telemetry."""

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dashboard.desk import Brokers
from dashboard.palette import ACCENT_ON_DARK, LINE
from lakehouse.claims import Provider
from lakehouse.datadir import DataDir

HOST = "127.0.0.1"
_FINISH_S = 5
"""How long answers under way may take at the end."""

_OPTIONS = {
    "server_address": HOST,
    "server_headless": True,
    "server_fileWatcherType": "none",
    "browser_gatherUsageStats": False,
    "client_toolbarMode": "viewer",
    # A stack trace in the browser may hold a patient's data; it is in the log.
    "client_showErrorDetails": "none",
    "theme_light_primaryColor": LINE,
    "theme_dark_primaryColor": ACCENT_ON_DARK,
}


class PortTakenError(OSError):
    """Another process listens on the port; the text says what to do."""


@dataclass(frozen=True)
class Entrance:
    """Who may come in (see dashboard.access), secrets of signing in and what claims mean, the gateway's key's file."""

    entry: str = "open"
    secrets: Path | None = None
    key_file: Path | None = None
    provider: Provider | None = None


def run(
    data: DataDir,
    gateway: str,
    brokers: Brokers,
    port: int,
    on_ready: Callable[[], None],
    entrance: Entrance,
    tracking_uri: str | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; ``on_ready`` is called once pages are served. Raises PortTakenError.

    ``tracking_uri`` is of an MLflow server; without it the models of the data dir are shown.
    """
    import uvicorn
    from streamlit.web import bootstrap

    _check_free(port)
    # Streamlit has no setting for it: uvicorn would wait for as long as a browser holds its connection.
    uvicorn.Config = partial(uvicorn.Config, timeout_graceful_shutdown=_FINISH_S)  # type: ignore[misc,assignment]
    options: dict[str, Any] = {**_OPTIONS, "server_port": port}
    if entrance.secrets is not None:
        options["secrets_files"] = [str(entrance.secrets)]
    bootstrap.load_config_options(options)
    threading.Thread(target=_tell, args=(port, on_ready), name="dashboard-ready", daemon=True).start()
    # Of the key its file's name alone: arguments can be seen by everybody on the machine.
    key_file = "" if entrance.key_file is None else str(entrance.key_file)
    provider = TypeAdapter(Provider | None).dump_json(entrance.provider).decode()
    names = json.dumps(dict(brokers.names))
    # An empty one stands in its place all the same.
    models = tracking_uri or ""
    arguments = [str(data.root), gateway, entrance.entry, key_file, brokers.servers, names, provider, models]
    script = Path(__file__).with_name("app.py")
    bootstrap.run(str(script), False, arguments, options)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PortTakenError(
                f"cannot listen on {HOST}:{port}: {error.strerror}; choose another with --port"
            ) from error


def _tell(port: int, on_ready: Callable[[], None]) -> None:
    """Call ``on_ready`` once the server answers."""
    while True:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/_stcore/health", timeout=1):
                break
        except OSError:
            time.sleep(0.1)
    on_ready()
