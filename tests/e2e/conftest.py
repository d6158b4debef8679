"""``ward up`` as a process, and the certainty that it leaves none behind; a browser."""

import subprocess
from collections.abc import Iterator

import pytest

from lakehouse.datadir import DataDir
from tests.fixtures.browser import Browser, chromium
from tests.fixtures.stack import WARD, Up, processes_of


@pytest.fixture
def up(data: DataDir) -> Iterator[Up]:
    """Call it with further options to start ``ward up``; whatever it leaves is a failure of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> "subprocess.Popen[str]":
        command = [WARD, "up", "--data-dir", str(data.root), "--broker-port", "0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    left = processes_of(data)
    for process_left in left:
        process_left.kill()
    assert left == []


@pytest.fixture
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium on this machine (Debian package chromium)")
    with Browser(program) as running:
        yield running
