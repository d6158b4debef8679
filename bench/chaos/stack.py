"""The stack under test: ``ward up`` with its simulator, gateway and notifier, and the means to hurt its processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

import psutil

from alerting.pack import load
from lakehouse.datadir import DataDir
from wardhouse.broker import LOOPBACK, free_port
from wardhouse.component import find_process, read_state
from wardhouse.settings import Settings

WARD = Path(sys.executable).parent / "ward"
START_S = 600.0
"""A cold start takes half a minute on a quiet machine; the rest is for one that is shared."""
_STOP_S = 180.0
_POLL_S = 0.2


class StackError(RuntimeError):
    """The stack does what it must not: it ends, or does not come up. The text holds what it said last."""


@dataclass(frozen=True)
class Load:
    """What the simulator sends: messages a second of all patients together, with faults of its own mixed in."""

    patients: int
    rate: float
    faults: str = "heavy"


class Stack:
    """``ward up`` on a data dir; its ports stay the same over restarts."""

    def __init__(self, data: DataDir, load_: Load, webhook_port: int, chance: Random) -> None:
        self.data, self.load, self.chance = data, load_, chance
        self.port, self._gateway_port = free_port(), free_port()
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        self.settings = Settings(kafka_bootstrap_servers=self.bootstrap)
        self.said = data.root.parent / "up.out"
        self._channels = data.root.parent / "channels.json"
        channel = {"urls": [f"json://{LOOPBACK}:{webhook_port}/"], "per_minute": 6000}
        self._channels.write_text(json.dumps({"channels": dict.fromkeys(load("adult").channels, channel)}))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            # The components end by themselves when it is gone.
            self._process.kill()
            self._process.wait()
            until(lambda: not self.components(), _STOP_S)

    def start(self) -> None:
        """Start it, and wait until everything serves. Raises StackError."""
        self.launch()
        self.wait(lambda: self.ready("up"))

    def launch(self) -> None:
        """Start it, without waiting."""
        options = {
            "--data-dir": self.data.root,
            "--broker-port": self.port,
            "--gateway-port": self._gateway_port,
            "--mllp-port": 0,
            "--channels": self._channels,
            "--patients": self.load.patients,
            "--rate": self.load.rate,
            "--faults": self.load.faults,
        }
        command = [str(text) for option in options.items() for text in option]
        with self.said.open("ab") as file:
            self._process = subprocess.Popen([WARD, "up", "--gateway", *command], stdout=file, stderr=file)

    def stop(self) -> None:
        """Stop it in order. Raises StackError where that does not end well."""
        assert self._process is not None  # noqa: S101 - it was started
        self._process.terminate()
        if self.ended(_STOP_S):
            raise StackError(f"ward up ended with an error: {self.last_words()}")

    def ended(self, within_s: float) -> int:
        """The exit code of ``ward up``, once it has ended. Raises StackError where it goes on."""
        assert self._process is not None  # noqa: S101 - it was started
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise StackError(f"ward up did not end within {within_s:g} s: {self.last_words()}") from None

    def last_words(self, lines: int = 15) -> str:
        """The end of what ``ward up`` has said."""
        return "\n".join(self.said.read_text(errors="replace").splitlines()[-lines:])

    def ward(self, *arguments: str) -> str:
        """What another command says of this data dir, whatever its exit code."""
        command = [str(WARD), *arguments, "--data-dir", str(self.data.root)]
        # The broker of the data dir is started for a command where none runs: it must not look for another one.
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.stdout

    def wait(self, condition: Callable[[], bool], within_s: float = START_S) -> float:
        """Seconds until a condition holds. Raises StackError where ``ward up`` ends first, or it takes too long."""
        begun = time.monotonic()
        while not condition():
            if self._process is None or self._process.poll() is not None:
                raise StackError(f"ward up has ended: {self.last_words()}")
            if time.monotonic() - begun > within_s:
                raise StackError(f"it took longer than {within_s:g} s: {self.last_words()}")
            time.sleep(_POLL_S)
        return time.monotonic() - begun

    def pid(self, name: str) -> int | None:
        """The process of a component; None where it does not run."""
        state = read_state(self.data, name)
        return state.pid if state else None

    def ready(self, name: str) -> bool:
        """Whether a component serves."""
        state = read_state(self.data, name)
        return state is not None and state.state == "ready"

    def address(self, name: str) -> str | None:
        """Where a component serves; None where it does not."""
        state = read_state(self.data, name)
        return state.address if state and state.state == "ready" else None

    def processes(self, name: str) -> list[psutil.Process]:
        """A component's own process first, then those it has started."""
        state = read_state(self.data, name)
        process = find_process(state.pid, state.started_at) if state else None
        return [process, *process.children(recursive=True)] if process else []

    def java(self, name: str) -> psutil.Process | None:
        """The Java machine of a component that has one."""
        return next((one for one in self.processes(name) if one.name() == "java"), None)

    def components(self) -> list[str]:
        """What runs on the data dir."""
        return [path.stem for path in self.data.run.glob("[!.]*.json") if read_state(self.data, path.stem)]


def until(condition: Callable[[], bool], within_s: float) -> bool:
    """Wait for a condition; whether it came in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def load_average() -> float:
    """Of the last minute: how busy the machine is, whoever keeps it busy."""
    return round(os.getloadavg()[0], 1)
