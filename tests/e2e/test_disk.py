"""A disk that runs full under the whole stack."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.checkpoint import position
from lakehouse.datadir import DataDir
from lakehouse.pipeline import DEVICE_MESSAGE
from tests.fixtures.stack import LONGEST_S, WARD, Up, processes_of, ready, wait_until

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


def test_a_run_ends_before_the_disk_is_full_and_nothing_is_damaged(up: Up, data: DataDir) -> None:
    process = up("--patients", "20")
    wait_until(ready(data, "simulator"), process)
    wait_until(lambda: position(data.checkpoint(DEVICE_MESSAGE)) is not None, process)
    filler = fill(data.root.parent)
    said, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 1, said
    last = said.splitlines()[-1]
    assert last.startswith("ward: less than "), said
    assert f"left on the disk of {data.root}: free some space" in last
    assert processes_of(data) == []

    filler.unlink()
    done = subprocess.run([WARD, "verify", "--data-dir", str(data.root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert "bronze_rows" in done.stdout
