import numpy as np
import pytest

from lakehouse.models.drift import RISK, TooFewPatientsNowError, drifts, reference
from lakehouse.models.features import NAMES, Rows

_HR, _SPO2, _GCS = (NAMES.index(f"{name}_last_24h") for name in ("heart_rate", "spo2", "gcs_eye"))


def rows(count: int, seed: int, heart_rate: float = 80.0) -> tuple[Rows, Rows, list[str]]:
    """Features, risks and patients of so many rows, ten of each; of the rest of the features nothing is known."""
    random = np.random.default_rng(seed)
    x = np.full((count, len(NAMES)), np.nan)
    x[:, _HR] = random.normal(heart_rate, 10, count)
    x[:, _SPO2] = np.where(random.random(count) < 0.3, np.nan, random.normal(96, 2, count))
    x[:, _GCS] = 4.0
    return x, random.beta(1, 20, count), [f"mrn/{row // 10}" for row in range(count)]


def test_what_is_drawn_alike_has_not_moved() -> None:
    found = drifts(reference(*rows(3000, 1)), *rows(1000, 2))

    assert [one.name for one in found if one.moved or one.index > 0.05] == []
    assert {one.name for one in found} == {*NAMES, RISK}
    spo2 = next(one for one in found if one.name == "spo2_last_24h")
    assert (spo2.missing_then, spo2.missing_now) == (pytest.approx(0.3, abs=0.03), pytest.approx(0.3, abs=0.05))


def test_what_has_moved_or_is_charted_no_more_or_for_the_first_time_is_told_first() -> None:
    x, risks, patients = rows(1000, 2, heart_rate=100.0)
    x[:, _SPO2] = np.nan
    x[:, NAMES.index("glucose_last_24h")] = 120.0

    found = drifts(reference(*rows(3000, 1)), x, risks + 0.2, patients)

    assert {one.name for one in found if one.moved} == {
        "heart_rate_last_24h",
        "spo2_last_24h",
        "glucose_last_24h",
        RISK,
    }
    assert [one.moved for one in found] == sorted((one.moved for one in found), reverse=True)


def test_a_value_of_which_there_was_only_one_is_held_against_others() -> None:
    x, risks, patients = rows(1000, 2)
    x[:500, _GCS] = 1.0

    found = {one.name: one.moved for one in drifts(reference(*rows(3000, 1)), x, risks, patients)}

    assert [name for name, moved in found.items() if moved] == ["gcs_eye_last_24h"]


def test_too_few_patients_say_nothing() -> None:
    with pytest.raises(TooFewPatientsNowError, match="19 patients say nothing of drift"):
        drifts(reference(*rows(3000, 1)), *rows(190, 2))
