"""A recording through topic and tables, on a real broker: landed sample by sample, over a kill, once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import wfdb

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.ecg.beat_class import judged
from lakehouse.ecg.beats import beats
from lakehouse.ecg.chunk import WaveformChunk
from lakehouse.ecg.rhythm import by_minute
from lakehouse.ecg.stored import chunk_of
from lakehouse.ecg.wfdb_reader import chunks
from tests.fixtures.ecg import NOON, simulated
from wardhouse.broker import Broker
from wardhouse.commands.verify import prove
from wardhouse.settings import Settings
from wardhouse.topics import ensure

WARD = str(Path(sys.executable).parent / "ward")
LONGEST_S = 300.0
Rows = list[dict[str, Any]]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Half an hour of MIT-BIH where it is there, else two minutes of a simulated patient."""
    if place := os.environ.get("WARD_SHARED_DATA"):
        return Path(place) / "wfdb/100"
    samples = np.stack([simulated(120.0)[0], simulated(120.0, seed=2)[0]], axis=1).astype(np.int16)
    wfdb.wrsamp(
        "bed7",
        fs=250,
        units=["mV", "mV"],
        sig_name=["II", "V5"],
        d_signal=samples,
        fmt=["16", "16"],
        adc_gain=[200.0, 200.0],
        baseline=[1024, 1024],
        write_dir=str(tmp_path),
    )
    return tmp_path / "bed7"


@pytest.fixture
def stream(data: DataDir) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts the application; what still runs at the end is killed, its Java process with it."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        data.logs.mkdir(parents=True, exist_ok=True)
        with (data.logs / "stream.log").open("ab") as log:
            command = [WARD, "stream", "waveform", "--data-dir", str(data.root)]
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in children:
            child.kill()
        psutil.wait_procs(children)
        process.wait()


def rows_when(data: DataDir, process: subprocess.Popen[bytes], query: str, count: int) -> Rows:
    """The rows of a query, once there are so many."""
    deadline = time.monotonic() + LONGEST_S
    while True:
        try:
            found: Rows = reader.query(data, query).to_pylist()
        except reader.TableMissingError:
            found = []
        if len(found) >= count:
            return found
        assert process.poll() is None, (data.logs / "stream.log").read_text()[-3000:]
        assert time.monotonic() < deadline, f"{len(found)} of {count} rows"
        time.sleep(0.5)


def test_a_recording_lands_sample_by_sample_once_over_a_kill_and_its_rhythm_is_the_librarys(
    data: DataDir,
    jars: Path,
    recording: Path,
    stream: Callable[[], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--patient", "mrn/1", "--started-at", NOON.isoformat(), "--data-dir", str(data.root)]
    send = [WARD, "ecg", "send", str(recording), *options]
    expected: list[WaveformChunk] = list(chunks(recording, "mrn/1", "recorder", NOON))
    with Broker(data, jars) as broker:
        ensure(broker.address)
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.address)
        said = subprocess.run(send, check=True, capture_output=True, text=True).stdout
        assert said == f"sent {len(expected)} chunks of {recording.name} as mrn/1\n"
        process = stream()
        landed = "SELECT * FROM silver.waveform_chunk ORDER BY lead, started_at"
        assert [chunk_of(row) for row in rows_when(data, process, landed, len(expected))] == expected

        kill(process)
        subprocess.run(send, check=True)
        process = stream()
        minutes = list(of_library(expected))
        found = rows_when(data, process, "SELECT * FROM gold.rhythm_minute ORDER BY lead, minute", len(minutes))
        assert [{name: row[name] for name in minutes[0]} for row in found] == minutes
        bronze = "SELECT topic FROM bronze.waveform_message"
        rows_when(data, process, bronze, 2 * len(expected))
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_S) == 0
        assert len(rows_when(data, process, landed, 0)) == len(expected)

        ledger = prove(Settings(), data, broker.address, "1g")
    assert [check for check in ledger.checks if not check.holds] == []
    assert "waveforms: every record is a chunk or a dead letter" in {check.name for check in ledger.checks}
    assert (ledger.totals["waveform_chunks"], ledger.totals["waveform_dead_letters"]) == (len(expected), 0)


def of_library(told: list[WaveformChunk]) -> Iterator[dict[str, Any]]:
    """The minutes of each lead, as one search of the whole recording finds them."""
    for lead, members in groupby(told, attrgetter("signal")):
        for minute in by_minute(judged(beats(members))):
            yield {"patient_id": "mrn/1", "device_id": "recorder", "lead": lead, **vars(minute)}
