"""What a person sees of a wrong setting: one clear line and a non-zero exit, whichever command it is."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from lakehouse.datadir import DataDir

WARD = str(Path(sys.executable).parent / "ward")
CLOSED = "127.0.0.1:1"


def ward(commands: Iterable[str], *options: str, **environment: str) -> dict[str, tuple[int, list[str]]]:
    """Exit code and the lines on stderr of each command; all at once, since they wait more than they work."""
    started = {
        command: subprocess.Popen(
            [WARD, *command.split(), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        for command in commands
    }
    said = {command: process.communicate(timeout=120)[1].splitlines() for command, process in started.items()}
    return {command: (process.returncode, said[command]) for command, process in started.items()}


@pytest.fixture
def taken() -> Iterator[str]:
    """A port of this machine on which something else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield str(other.getsockname()[1])


ON_KAFKA = (
    "stream alerts",
    "stream lakehouse",
    "router",
    "simulate --duration 5s",
    "alerts list",
    "alerts silences",
    "rules show",
    "limits list",
    "plan",
    "apply",
    "up --no-simulator --duration 5s",
)
ON_A_PORT = ("broker", "gateway", "dashboard", "airflow")


def test_a_broker_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path) -> None:
    done = ward(ON_KAFKA, "--data-dir", str(tmp_path / "ward"), KAFKA_BOOTSTRAP_SERVERS=CLOSED)
    for command, (code, said) in done.items():
        assert code == 1, command
        # Before it may come lines of progress, and no traceback.
        assert said[-1].startswith(f"ward: no Kafka broker answers at {CLOSED}: start one with"), (command, said)
        assert all(line.startswith(("ward:", "run ")) for line in said), (command, said)


def test_a_data_dir_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "ward"
    others = ("verify", "status", "quality run")
    for command, (code, said) in ward([*ON_KAFKA, *ON_A_PORT, *others], "--data-dir", str(place)).items():
        assert code == 1, command
        (line,) = said
        assert line.startswith("ward: "), (command, line)
        assert str(place) in line, (command, line)


def test_a_port_that_is_taken_is_named(data: DataDir, taken: str) -> None:
    data.root.mkdir()
    for command, (code, said) in ward(ON_A_PORT, "--data-dir", str(data.root), "--port", taken).items():
        assert code == 1, command
        (line,) = said
        assert line.startswith("ward: "), (command, line)
        assert taken in line, (command, line)
