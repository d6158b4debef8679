"""``ward airflow``: Airflow on one machine, with a home of its own under the data dir."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.datadir import DataDir
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

DAGS = Path(__file__).resolve().parents[2] / "dags"

READY_WITHIN_S = 300
"""A first start makes the database: half a minute on an idle machine, minutes beside a busy stream."""

STOP_WITHIN_S = 30
"""Long enough for a scheduler to hand back its tasks; Airflow's own processes end in seconds."""


def airflow(
    path: DataDirOption = DEFAULT_DATA_DIR,
    port: Annotated[int, typer.Option(help="Port of the web page and API.", min=1, max=65535)] = 8080,
) -> None:
    """Run Airflow with the project's DAGs until it is stopped (Ctrl-C or SIGTERM).

    For one machine, and reachable from it alone. DAGs start paused, as is Airflow's custom: switch them on in the page.
    """
    from wardhouse.component import component
    from wardhouse.errors import Failure, failures
    from wardhouse.signals import stop_on_signals

    settings, data = Settings(), data_dir(path)
    address = f"http://127.0.0.1:{port}"
    with failures(), component(data, "airflow", address) as running, stop_on_signals() as stop:
        if not DAGS.is_dir():
            raise Failure(f"no DAGs in {DAGS}: `ward airflow` runs from a checkout of the project")
        if _taken(port):
            raise Failure(f"port {port} is taken: choose another with --port")
        log = data.logs / "airflow.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        home(data).mkdir(parents=True, exist_ok=True)
        typer.echo(f"airflow: starting at {address}, log in {log}")
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("airflow")), "standalone"],
                env={**os.environ, **environment(data, settings, port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C reaches this process alone, which then stops them in order.
                start_new_session=True,
            )
        try:
            if _healthy(address, process, stop):
                running.ready(address)
                typer.echo(f"airflow: {address} {login(data)}")
                _wait(process, stop)
        finally:
            _stop(process)
        if not stop.is_set():
            raise Failure(f"Airflow has ended (exit code {process.returncode}) or did not come up: see {log}")


def home(data: DataDir) -> Path:
    """AIRFLOW_HOME: settings, database and task logs."""
    return data.root / "airflow"


def environment(data: DataDir, settings: Settings, port: int) -> dict[str, str]:
    """What Airflow and the tasks it starts find in the environment, beside what is there."""
    server = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW_HOME": str(home(data)),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{server}/execution/",
        # Tasks are Spark jobs: more than two at once on one machine only take each other's memory.
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": server,
        "AIRFLOW__API__WORKERS": "1",
        # Airflow's servers of task logs have fixed ports; these leave room for a second Airflow on the machine.
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port + 1),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port + 2),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # Airflow's own imports warn of what only Airflow can mend, once for each of its processes and tasks.
        "PYTHONWARNINGS": "ignore",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "WARD_DATA_DIR": str(data.root),
        "WARD_JARS": str(settings.jars.resolve()),
    }


def login(data: DataDir) -> str:
    """User and password, as Airflow made them at its first start."""
    path = home(data) / "simple_auth_manager_passwords.json.generated"
    try:
        passwords = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return f"(login in {path})"
    return ", ".join(f"(user {user}, password {password})" for user, password in passwords.items())


def _taken(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _healthy(address: str, process: "subprocess.Popen[bytes]", stop: threading.Event) -> bool:
    """Wait until every part of Airflow says that it is well; False when it ends, is stopped or takes too long."""
    for _ in range(READY_WITHIN_S):
        if process.poll() is not None or stop.is_set():
            return False
        try:
            with urllib.request.urlopen(f"{address}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310
                parts = json.load(answer)
            if all(parts[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor")):
                return True
        except (OSError, ValueError, urllib.error.URLError):
            pass  # not serving yet
        stop.wait(1)
    return False


def _wait(process: "subprocess.Popen[bytes]", stop: threading.Event) -> None:
    while process.poll() is None and not stop.wait(0.5):
        pass


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask Airflow to end its parts (it listens to SIGINT), then end what is left of its group."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WITHIN_S)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
