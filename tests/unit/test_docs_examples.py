"""The Python examples of these pages run as they stand there, one after the other, on a small data dir."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import deltalake
import pytest

from lakehouse.datadir import DataDir
from lakehouse.known_at import as_known_at
from lakehouse.snapshot import create
from lakehouse.tables import OBSERVATION, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.marts import write_mart
from tests.fixtures.observations import observation

EIGHT = datetime(2026, 3, 1, 8, tzinfo=UTC)


@pytest.fixture
def filled(data: DataDir) -> DataDir:
    at_eight = {"observed_at": EIGHT, "received_at": EIGHT, "recorded_at": EIGHT}
    append(data, OBSERVATION, observation("early", 0, 70.0, **at_eight), observation("late", 0, 90.0))
    minutes = as_known_at(data, VITAL_SIGN_MINUTE, None).to_arrow_table()
    deltalake.write_deltalake(data.table(VITAL_SIGN_MINUTE), minutes)
    create(data, "icu-2026", EIGHT, software={"wardhouse": "1"}, configuration={})
    return data


def run(page: str, data: DataDir) -> dict[str, Any]:
    """What the page's examples leave behind, by name."""
    names: dict[str, Any] = {"data": data}
    for example in re.findall(r"^```python\n(.*?)^```", Path(page).read_text(), re.DOTALL | re.MULTILINE):
        exec(example, names)  # noqa: S102 - our own page
    return names


def test_what_was_known(filled: DataDir) -> None:
    found = run("docs/known-at.md", filled)

    assert list(found["heart_rate"]["value"]) == [70.0]
    assert found["minutes"].select(["minute", "last"]).to_pylist() == [{"minute": EIGHT, "last": 70.0}]
    assert len(found["newest"]) == 2


def test_snapshots(filled: DataDir) -> None:
    found = run("docs/snapshots.md", filled)

    assert len(found["rows"]) == 2
    assert found["by_code"].to_pylist() == [{"code": "8867-4", "n": 2}]
    assert found["cite"].startswith("@misc{wardhouse_icu_2026,")


def test_models(filled: DataDir) -> None:
    told = run("docs/models.md", filled)["told"]

    assert [(row["heart_rate_last_24h"], row["age"]) for row in told] == [(70.0, 70.0)]


def test_ecg(data: DataDir) -> None:
    minute = run("docs/ecg.md", data)["minute"]

    assert (minute.good_beats, minute.premature) == (75, 0)
    assert minute.mean_rr == pytest.approx(800, rel=0.02)


def test_researchers(filled: DataDir) -> None:
    write_mart(filled, "icu_stay", {"stay_id": "a/1", "died_in_hospital": True}, {"stay_id": "a/2"})

    found = run("docs/researchers.md", filled)

    assert list(found["minutes"]["last"]) == [70.0, 90.0]
    assert found["deaths"] == [{"n": 1}]
