import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lakehouse.datadir import DataDir
from lakehouse.models.episodes import EpisodesError, of_truth, read
from lakehouse.models.features import NAMES
from lakehouse.models.landmarks import Landmarks, NoLandmarksError
from lakehouse.tables import OBSERVATION, PATIENT
from tests.fixtures.delta import append
from tests.fixtures.observations import NOON, known, observation

WITHIN = timedelta(minutes=6)


def episode(patient_id: str, begin: float, reached: float, over: float) -> dict[str, Any]:
    """Minutes after noon."""
    begin, reached, over = (known(60 * minute).isoformat() for minute in (begin, reached, over))
    course = {"from": begin, "plateau_from": reached, "plateau_to": over, "to": over}
    return {"type": "episode", "patient_id": patient_id, **course}


def write_truth(folder: Path, *episodes: dict[str, Any], minutes: float = 20) -> Path:
    """The truth of a run of two patients from noon on."""
    lines = [
        {"type": "run", "run": "one", "start": NOON.isoformat()},
        *({"type": "resource", "resource": f"Patient/{one}", "patient_id": f"sim/{one}"} for one in "ab"),
        *({"type": "resource", "resource": f"Encounter/{one}-1", "patient_id": f"sim/{one}"} for one in "ab"),
        *episodes,
        {"type": "summary", "run": "one", "ended_s": 60 * minutes},
    ]
    path = folder / "one.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def told(rows: Landmarks, patient: str) -> list[tuple[str, bool, float | None]]:
    """Stay, event, and minutes to it, of each landmark of a patient."""
    return [
        (str(stay), bool(event), None if np.isnan(hours) else round(float(hours) * 60, 6))
        for one, stay, event, hours in zip(rows.patients, rows.stays, rows.event, rows.hours_to_event, strict=True)
        if one == patient
    ]


@pytest.fixture
def data(data: DataDir) -> DataDir:
    about = {"patient_id": "sim/a"}
    append(data, OBSERVATION, observation("a", 30, 70.0, **about), observation("b", 600, 140.0, **about))
    append(data, PATIENT, {"patient_id": "sim/a", "birth_year": 1956, "gender": "female", "recorded_at": NOON})
    return data


def test_the_event_is_the_height_of_an_episode_and_none_is_asked_for_while_one_lasts(
    data: DataDir, tmp_path: Path
) -> None:
    truth = write_truth(tmp_path, episode("sim/a", 5.5, 9.5, 11.5), episode("sim/a", 12, 18, 19))

    rows = read(data, of_truth(truth), WITHIN)

    # Every two minutes from the third on, as far as the run tells what came; 11 is on the height of the first.
    assert told(rows, "sim/a") == [
        ("a-1/0", False, 6.5),
        ("a-1/0", True, 4.5),
        ("a-1/0", True, 2.5),
        ("a-1/0", True, 0.5),
        ("a-1/1", True, 5.0),
    ]
    assert told(rows, "sim/b") == [("b-1/0", False, None)] * 6
    assert rows.outcome.name == "simulated-episode-within-6-minutes"
    assert rows.outcome.concerns("sim/c")
    assert not rows.outcome.concerns("mimic-iv/1")
    assert list(rows.groups["gender"]) == ["female"] * 5 + ["unknown"] * 6
    assert rows.versions == {"silver.observation": 0, "silver.patient": 0}


def test_a_landmark_is_told_what_was_recorded_by_then_and_nothing_of_the_height(data: DataDir, tmp_path: Path) -> None:
    rows = read(data, of_truth(write_truth(tmp_path, episode("sim/a", 8, 10, 12))), WITHIN)

    last = rows.x[rows.patients == "sim/a", NAMES.index("heart_rate_last_24h")]
    assert list(last) == [70.0, 70.0, 70.0, 70.0, 140.0]


def test_a_file_that_is_no_truth_or_of_a_run_that_is_too_short_is_named(data: DataDir, tmp_path: Path) -> None:
    cut = write_truth(tmp_path)
    with pytest.raises(NoLandmarksError, match="run one lasted 0:05:00"):
        read(data, of_truth(write_truth(tmp_path, minutes=5)), WITHIN)
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:-1]))

    for path in (cut, tmp_path / "none.jsonl"):
        with pytest.raises(EpisodesError, match="is not the truth of a run that has ended"):
            of_truth(path)
