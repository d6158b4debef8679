"""A disk that runs full under the whole stack."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.datadir import DataDir
from tests.fixtures.stack import LONGEST_S, Up, processes_of, ready, wait_until

SIZE_MB = 600
LEFT = 16 * 1024 * 1024


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDir]:
    """A data dir on a small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system that runs full needs the right to mount one: {done.stderr.strip()}")
    try:
        yield DataDir(place / "ward")
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take the space of the file system that this folder is on, but for a little."""
    filler = place / "filler"
    space = os.statvfs(place)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - LEFT)
    return filler


def test_a_run_ends_before_the_disk_is_full_and_the_next_one_carries_on_with_nothing_lost(
    up: Up, data: DataDir, tmp_path: Path
) -> None:
    process = up("--patients", "20")
    wait_until(ready(data, "simulator"), process)
    filler = fill(data.root.parent)
    said, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 1, said
    last = said.splitlines()[-1]
    assert last.startswith("ward: less than "), said
    assert f"left on the disk of {data.root}: free some space" in last
    assert processes_of(data) == []

    filler.unlink()
    report_file = tmp_path / "report.json"
    process = up("--no-simulator", "--duration", "1s", "--report", str(report_file))
    said, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, said
    report = json.loads(report_file.read_text())
    assert (report["lost"], report["duplicated"], report["landed"]) == (0, 0, True), said
    assert report["ledger"]["totals"]["bronze_rows"] > 0
