"""A master and a worker by `ward spark`, as containers run them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from wardhouse.broker import free_port

WARD = str(Path(sys.executable).with_name("ward"))
WITHIN_S = 90.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_CONF_DIR": str(tmp_path)}
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen([WARD, "spark", *words], env=environment, stdout=log, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_worker_finds_its_master_and_both_end_when_they_are_told_to(start, tmp_path: Path) -> None:
    port, page = free_port(), free_port()
    master = start("master", "--port", str(port), "--ui-port", str(page))
    offers = ("--cores", "3", "--memory", "700m", "--ui-port", "0", "--work-dir", str(tmp_path / "work"))
    worker = start("worker", *offers, f"spark://127.0.0.1:{port}")

    deadline, found = time.monotonic() + WITHIN_S, None
    while found is None:
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
        try:
            state = httpx.get(f"http://127.0.0.1:{page}/json/", timeout=5).json()
            found = state if state["aliveworkers"] else None
        except httpx.TransportError:
            pass  # it does not serve yet
        time.sleep(0.1)
    for process in (worker, master):
        process.terminate()
        process.wait(20)

    assert (found["url"], found["cores"], found["memory"]) == (f"spark://127.0.0.1:{port}", 3, 700)
