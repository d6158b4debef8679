"""``ward ecg send``, up to where it needs a broker."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fixtures.ecg import simulated
from wardhouse.cli import app

GIVEN = {"--patient": "mrn/1", "--started-at": "2026-03-01T12:00:00Z"}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    import wfdb

    samples = simulated(2.0)[0].astype("int16").reshape(-1, 1)
    wfdb.wrsamp(
        "bed7",
        250,
        ["mV"],
        ["II"],
        d_signal=samples,
        fmt=["16"],
        adc_gain=[200.0],
        baseline=[0],
        write_dir=str(tmp_path),
    )
    return tmp_path / "bed7"


@pytest.mark.parametrize(
    ("name", "changes", "code", "said"),
    [
        ("none", {}, 1, "there is no none.hea"),
        ("bed7", {"--patient": "mrn"}, 1, "data.patient_id must match pattern"),
        ("bed7", {"--started-at": "2026-03-01T12:00:00"}, 2, "instant with its offset"),
    ],
)
def test_what_cannot_be_sent_is_told_before_a_broker_is_asked(
    recording: Path, name: str, changes: dict[str, str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    options = [text for pair in {**GIVEN, **changes}.items() for text in pair]

    ran = CliRunner().invoke(app, ["ecg", "send", str(recording.with_name(name)), *options])

    assert ran.exit_code == code
    assert said in " ".join(ran.output.replace("│", " ").split())
