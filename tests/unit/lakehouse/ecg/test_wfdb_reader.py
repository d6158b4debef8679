from pathlib import Path

import numpy as np
import pytest
import wfdb

from lakehouse.ecg.chunk import NO_VALUE, WaveformChunk
from lakehouse.ecg.series import join
from lakehouse.ecg.wfdb_reader import WfdbRecordError, chunks
from tests.fixtures.ecg import NOON


def record(folder: Path, names: tuple[str, ...] = ("II", "V5"), units: str = "mV", samples: object = None) -> Path:
    """A record of format 16 at 250 Hz: a ramp, and it again from 100 on."""
    ramp = np.arange(1000, dtype=np.int16) if samples is None else np.asarray(samples, dtype=np.int16)
    wfdb.wrsamp(
        "bed7",
        fs=250,
        units=[units] * len(names),
        sig_name=list(names),
        d_signal=np.stack([ramp + 100 * n for n in range(len(names))], axis=1),
        fmt=["16"] * len(names),
        adc_gain=[200.0] * len(names),
        baseline=[0] * len(names),
        write_dir=str(folder),
    )
    return folder / "bed7"


def read(path: Path, **options: object) -> list[WaveformChunk]:
    return list(chunks(path, "mrn/1", "monitor/7", NOON, **options))


def test_a_record_is_the_chunks_of_its_leads(tmp_path: Path) -> None:
    told = read(record(tmp_path), seconds=1.5)

    assert [len(one.samples) for one in told] == [375, 375, 250] * 2
    first, second = (join(one for one in told if one.signal == code).runs for code in ("131330", "131335"))
    assert first == (
        WaveformChunk(
            "mrn/1", "monitor/7", "131330", NOON, 250.0, "mV", 200.0, 0.0, np.arange(1000), lowest=-32768, highest=32767
        ),
    )
    assert second[0].samples.tolist() == list(range(100, 1100))


def test_what_a_record_says_is_missing_stays_missing(tmp_path: Path) -> None:
    told = read(record(tmp_path, ("II",), samples=[1, -32768, 3]))

    assert told[0].samples.tolist() == [1, NO_VALUE, 3]


def test_other_signals_are_left_out_and_a_caller_may_name_a_lead(tmp_path: Path) -> None:
    path = record(tmp_path, ("II", "RESP"))

    assert {one.signal for one in read(path)} == {"131330"}
    assert {one.signal for one in read(path, codes={"RESP": "131328"})} == {"131330", "131328"}


def test_record_100_has_two_leads_of_half_an_hour(shared_data: Path) -> None:
    told = list(chunks(shared_data / "wfdb/100", "mit-bih/100", "holter", NOON))

    assert [(one.signal, one.gain, one.baseline, one.lowest, one.highest) for one in told[::181]] == [
        ("131330", 200.0, 1024.0, 0.0, 2047.0),
        ("131335", 200.0, 1024.0, 0.0, 2047.0),
    ]
    assert [len(run.samples) for run in join(told[:181]).runs] == [650_000]
    expected = wfdb.rdrecord(str(shared_data / "wfdb/100")).p_signal[:3600, 0]
    np.testing.assert_allclose(told[0].millivolts(), expected)


def broken(folder: Path, old: str, new: str) -> Path:
    path = record(folder)
    header = path.with_suffix(".hea")
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("bed7.dat", "../bed7.dat", "cannot be read"),
        ("bed7.dat", "/etc/hostname", "cannot be read"),
        ("bed7.dat", "none.dat", "cannot be read"),
        ("1000", "9000", "cannot be read"),
        ("mV", "mmHg", "its unit mmHg"),
        (" 2 250 ", " two 250 ", "cannot be read"),
        (" 2 250 ", " 2 0 ", "0 samples a second"),
    ],
)
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, old: str, new: str, named: str) -> None:
    with pytest.raises(WfdbRecordError, match=named):
        read(broken(tmp_path, old, new))


def test_a_record_without_a_lead_is_refused_with_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(WfdbRecordError, match="ABP, RESP"):
        read(record(tmp_path, ("ABP", "RESP")))


@pytest.mark.parametrize("name", ["none", "https://example.org/100"])
def test_what_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WfdbRecordError, match="there is no"):
        read(tmp_path / name)
