"""The researchers' notebooks, each run from top to bottom in a real kernel, and what they print worked out anew."""

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from scipy.optimize import minimize

from lakehouse.datadir import DataDir
from lakehouse.models import episodes
from lakehouse.tables import ALERT_EVENT, EARLY_WARNING_SCORE, VITAL_SIGN_MINUTE
from streaming.simulator.simulation import Options
from tests.fixtures.delta import append
from tests.fixtures.marts import write_mart
from tests.fixtures.simulated import land

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = ("alarm_burden", "anomalies", "news2_against_outcome", "risk_model", "trend_of_a_patient")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEART_RATE, SPO2 = "8867-4", "59408-5"
DRAWS, SEED = 2_000, 20_260_301


def executed(name: str, data: DataDir, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """What the notebook prints, and its charts as SVG."""
    monkeypatch.setenv("WARD_DATA_DIR", str(data.root))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    place = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(book, timeout=120, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    drawn = [output.data["image/svg+xml"] for output in outputs if "image/svg+xml" in output.get("data", {})]
    return said, drawn


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_valid_and_has_no_outputs_and_no_path_of_a_machine(path: Path) -> None:
    book = nbformat.read(path, as_version=4)

    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count, dict(cell.metadata)) for cell in code] == [([], None, {})] * len(code)
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert dict(book.metadata.language_info) == {"name": "python"}
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|opt|var)/|[A-Z]:\\\\", path.read_text()) == []


def test_there_are_five_notebooks() -> None:
    assert tuple(path.stem for path in NOTEBOOKS) == NAMES


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("trend_of_a_patient", "gold.vital_sign_minute is not in .* yet: `ward apply"),
        ("news2_against_outcome", "mart.deterioration_label is not in .* yet: `ward dbt build"),
        ("alarm_burden", "gold.alert_event in .* has no rows: `ward up"),
        ("anomalies", "gold.vital_sign_minute is not in .* yet: `ward apply"),
        ("risk_model", "mart.deterioration_label is not in .* yet: `ward dbt build"),
    ],
)
def test_without_data_a_notebook_says_what_to_do(
    name: str, remedy: str, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(data, ALERT_EVENT)

    with pytest.raises(CellExecutionError, match=remedy):
        executed(name, data, monkeypatch)


# The trend of a patient


def minute(patient: str, code: str, unit: str, at: datetime, value: float) -> dict[str, Any]:
    values = {"min": value - 1, "mean": value, "max": value + 1, "first": value, "last": value}
    return {"patient_id": patient, "code": code, "unit": unit, "minute": at, "count": 12, **values}


def score(at: datetime, least: int, most: int, **parts: int) -> dict[str, Any]:
    total = least if least == most else None
    return {
        "patient_id": "a/1",
        "score": "news2",
        "observed_at": at,
        "total": total,
        "total_min": least,
        "total_max": most,
        "parts": parts,
    }


def transition(
    alert: str, sequence: int, state: str, at: datetime, *, reason: str = "breach", patient: str = "a/1", **more: Any
) -> dict[str, Any]:
    return {
        "alert_id": alert,
        "sequence": sequence,
        "state": state,
        "reason": reason,
        "rule_id": "heart-rate-high",
        "title": "Heart rate high",
        "pack": "adult@2",
        "priority": "medium",
        "category": "physiological",
        "patient_id": patient,
        "code": HEART_RATE,
        "value": 131.0,
        "limit_value": 120.0,
        "observed_at": at,
        "message_received_at": at + timedelta(seconds=1),
        "emitted_at": at + timedelta(seconds=2),
    } | more


def test_the_trend_shows_gaps_as_gaps_and_news2_by_its_parts_with_alerts(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [*range(60), *range(90, 180), *range(200, 241)]  # minutes 60 to 89 and 180 to 199 are missing
    at = [NOON + timedelta(minutes=number) for number in there]
    append(data, VITAL_SIGN_MINUTE, *(minute("a/1", HEART_RATE, "/min", one, 80.0 + i % 7) for i, one in enumerate(at)))
    append(data, VITAL_SIGN_MINUTE, *(minute("a/1", SPO2, "%", one, 97.0) for one in at[:30]))
    append(data, VITAL_SIGN_MINUTE, *(minute("b/2", HEART_RATE, "/min", one, 150.0) for one in at[:100]))
    append(
        data,
        EARLY_WARNING_SCORE,
        score(NOON, 1, 1, heart_rate=1, spo2=0),
        score(NOON + timedelta(hours=1), 6, 9, heart_rate=3, spo2=3),
        score(NOON + timedelta(hours=2), 2, 2, heart_rate=2, spo2=0),
    )
    began = NOON + timedelta(minutes=30)
    append(
        data,
        ALERT_EVENT,
        transition("one", 0, "active", began),
        transition("one", 1, "resolved", began + timedelta(minutes=5), reason="cleared"),
        transition("other", 0, "active", began, patient="b/2"),
    )

    said, charts = executed("trend_of_a_patient", data, monkeypatch)

    assert "a/1, 2026-02-28 16:01 to 2026-03-01 16:01 UTC" in said
    lines = {line.split("  ")[0].strip(): line.split() for line in said.splitlines()}
    values = [80.0 + i % 7 for i in range(len(at))]
    heart_rate = next(line.split() for line in said.splitlines() if line.strip().startswith("Heart rate"))
    assert heart_rate[2:] == ["/min", str(len(at)), "2", "79.0", str(median(values)), "87.0"]
    assert next(line.split() for line in said.splitlines() if "SpO2" in line)[-5:] == [
        "30",
        "0",
        "96.0",
        "97.0",
        "98.0",
    ]
    assert "1 alerts" in lines
    assert "NEWS2 is at least 6 from 2026-03-01 13:00 on" in said
    # From noon to 16:01 of 24 hours; the total is open for one of them.
    assert f"stands for {241 / 1440:.0%} of the time, a known total for {181 / 1440:.0%}" in said
    assert len(charts) == 2
    assert "Heart rate (/min)" in charts[0]
    assert "not known" in charts[1]


# NEWS2 against outcome


@dataclass(frozen=True)
class Landmark:
    patient: str
    score: tuple[int, int] | None
    event: bool | None


def cohort() -> list[Landmark]:
    """Forty adults; every fifth dies, and scores higher towards the end. Some landmarks lack a score, or an outcome."""
    chance = random.Random(7)
    found = []
    for number in range(40):
        dies = number % 5 == 0
        for step in range(12):
            event = dies and step >= 6
            least = min(max(round(chance.gauss(7 if event else 4, 2)), 0), 17)
            most = least + chance.choice((0, 0, 3))
            known = None if chance.random() < 0.05 else (least, most)
            found.append(Landmark(f"p/{number:02}", known, None if number == 39 else event))
    return found


def write_cohort(data: DataDir, landmarks: list[Landmark]) -> None:
    stays: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    trajectory: list[dict[str, Any]] = []
    for patient in sorted({landmark.patient for landmark in landmarks}):
        own = [landmark for landmark in landmarks if landmark.patient == patient]
        died = None if own[0].event is None else any(landmark.event for landmark in own)
        ends = NOON + timedelta(hours=52)
        stay = {"stay_id": f"s-{patient}", "patient_id": patient, "started_at": NOON, "ended_at": ends}
        stays.append(stay | {"died_in_hospital": died, "hospital_death_at": ends if died else None})
        for number, landmark in enumerate(own, 1):
            least, most = landmark.score or (None, None)
            at = NOON + timedelta(hours=4 * number)
            rows.append(
                {
                    "stay_id": stay["stay_id"],
                    "patient_id": patient,
                    "landmark_at": at,
                    "news2_min": least,
                    "news2_max": most,
                    "death_within_24_hours": landmark.event,
                }
            )
            if landmark.score:
                trajectory.append(
                    {
                        "stay_id": stay["stay_id"],
                        "patient_id": patient,
                        "observed_at": at - timedelta(minutes=10),
                        "known_at": at - timedelta(minutes=5),
                        "stands_until": at + timedelta(hours=4),
                        "total_min": least,
                        "total_max": most,
                    }
                )
    again = {"stay_id": "second", "patient_id": "p/00", "started_at": NOON, "ended_at": NOON + timedelta(days=9)}
    write_mart(data, "icu_stay", *stays, again | {"died_in_hospital": True})
    first = [{name: stay[name] for name in ("stay_id", "patient_id", "started_at")} for stay in stays]
    write_mart(data, "cohort_adult_first_icu_stay", *first)
    write_mart(data, "news2_trajectory", *trajectory)
    later = {"stay_id": "second", "patient_id": "p/00", "landmark_at": NOON, "news2_min": 0, "news2_max": 0}
    write_mart(data, "deterioration_label", *rows, later | {"death_within_24_hours": True})


def by_pairs(scored: list[tuple[int, bool]]) -> float | None:
    """AUROC as it is defined: over all pairs of a score with the event and one without."""
    events = [one for one, event in scored if event]
    others = [one for one, event in scored if not event]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(events, others)]
    return sum(pairs) / len(pairs) if pairs else None


def interval(scored: dict[str, list[tuple[int, bool]]], draws: int = DRAWS) -> tuple[float, float, int]:
    """Quantiles of the AUROC over draws of patients, each drawn patient put in as often as drawn; draws left out."""
    patients = sorted(scored)
    weights = np.random.default_rng(SEED).multinomial(len(patients), [1 / len(patients)] * len(patients), size=draws)
    found = []
    for weight in weights:
        drawn = [one for patient, times in zip(patients, weight, strict=True) for one in scored[patient] * int(times)]
        events = np.array([one for one, event in drawn if event])
        others = np.array([one for one, event in drawn if not event])
        if len(events) and len(others):
            found.append(((events[:, None] > others).mean()) + (events[:, None] == others).mean() / 2)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high), draws - len(found)


def told(scored: dict[str, list[tuple[int, bool]]]) -> str:
    alone = by_pairs([one for own in scored.values() for one in own])
    low, high, left_out = interval(scored)
    number = sum(len(own) for own in scored.values())
    return (
        f"AUROC {alone:.3f} (95 % interval {low:.3f} to {high:.3f}), {number} scores,"
        f" {left_out} draws with one outcome only"
    )


def risk(rows: list[Landmark], at: int) -> float:
    """The risk at a score by a logistic model of these landmarks, with the same ridge, by a general optimiser."""
    points = np.array([row.score[0] for row in rows if row.score])
    events = np.array([bool(row.event) for row in rows])

    def loss(beta: np.ndarray[Any, Any]) -> float:
        linear = beta[0] + beta[1] * points
        return float((np.logaddexp(0, linear) - events * linear).sum() + 5e-4 * (beta @ beta))

    best = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-8}).x
    return float(1 / (1 + np.exp(-(best[0] + best[1] * at))))


def test_news2_is_held_against_outcome_with_what_is_missing_counted(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    landmarks = cohort()
    write_cohort(data, landmarks)

    said, charts = executed("news2_against_outcome", data, monkeypatch)

    kept = [one for one in landmarks if one.event is not None and one.score is not None]
    least: dict[str, list[tuple[int, bool]]] = {}
    most: dict[str, list[tuple[int, bool]]] = {}
    complete: dict[str, list[tuple[int, bool]]] = {}
    for one in kept:
        assert one.score is not None
        least.setdefault(one.patient, []).append((one.score[0], bool(one.event)))
        most.setdefault(one.patient, []).append((one.score[1], bool(one.event)))
        if one.score[0] == one.score[1]:
            complete.setdefault(one.patient, []).append((one.score[0], bool(one.event)))
    without = sum(one.event is None for one in landmarks)
    partial = len(kept) - sum(map(len, complete.values()))
    for line in (
        "41 stays of 40 patients",
        "480 landmarks in the first stays of 40 adults",
        f"left out: {without} without outcome, {480 - without - len(kept)} without a known score",
        f"analysed: {len(kept)} landmarks of 39 patients",
        f"events: {sum(bool(one.event) for one in kept)} landmarks of 8 patients who died within 24 hours",
        f"scores: {len(kept) - partial} complete, {partial} with missing inputs",
        "range of the latter: median 3 points",
        f"least possible score: {told(least)}",
        f"most possible score: {told(most)}",
        f"complete scores only: {told(complete)}",
        "left out: 1 of 40 patients without outcome, 0 without a score on the first day",
        f"highest of the first day: {told(first_day(landmarks))}",
        "8 patients with an event are fewer than the 100 that a validation needs.",
        "With 8 patients who die and 31 who do not,",
    ):
        assert line in said, said
    for name, low, high in (("0 to 4", 0, 4), ("5 to 6", 5, 6), ("7 and more", 7, 20)):
        assert calibrated(kept, name, low, high) in said, said
    assert [title in charts[0] for title in ("Calibration by band", "7 and more")] == [True, True]
    assert "died in hospital (8 patients)" in charts[1]


def first_day(landmarks: list[Landmark]) -> dict[str, list[tuple[int, bool]]]:
    """The highest score of each patient that was known within 24 hours, which that of the sixth landmark just was."""
    found: dict[str, list[tuple[int, bool]]] = {}
    for patient in sorted({one.patient for one in landmarks if one.event is not None}):
        own = [one for one in landmarks if one.patient == patient]
        scores = [one.score[0] for one in own[:6] if one.score]
        found[patient] = [(max(scores), any(one.event for one in own))]
    return found


def calibrated(kept: list[Landmark], name: str, low: int, high: int) -> str:
    """The beginning of the line of one band, up to the observed share."""
    patients = sorted({one.patient for one in kept})
    expected = []
    for one in kept:
        assert one.score is not None
        if low <= one.score[0] <= high:
            fold = patients.index(one.patient) % 10
            expected.append((fold, one.score[0], one))
    models = {
        (fold, points): risk([one for one in kept if patients.index(one.patient) % 10 != fold], points)
        for fold, points, _ in expected
    }
    predicted = sum(models[fold, points] for fold, points, _ in expected) / len(expected)
    events = sum(bool(one.event) for _, _, one in expected)
    there = len({one.patient for _, _, one in expected})
    return (
        f"NEWS2 {name}: {len(expected)} landmarks of {there} patients, {events} events,"
        f" predicted {predicted:.1%}, observed {events / len(expected):.1%} ("
    )


def test_without_an_event_there_is_no_auroc_and_the_notebook_says_so(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cohort(data, [Landmark(f"p/{number}", (number, number), event=False) for number in range(6)])

    said, _ = executed("news2_against_outcome", data, monkeypatch)

    assert "least possible score: AUROC not defined, 6 scores of which 0 with the event" in said
    assert "0 patients with an event are fewer than the 100" in said


# Alarm burden


def test_alarms_are_counted_by_patient_day_with_what_repeats_and_what_a_delay_would_do(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alarm(name: str, start: float, length_s: float | None, **more: Any) -> list[dict[str, Any]]:
        began = NOON + timedelta(minutes=start)
        rows = [transition(name, 0, "pending", began, **more), transition(name, 1, "active", began, **more)]
        rows[1]["reason"] = "sustained"
        if length_s is not None:
            rows.append(transition(name, 2, "resolved", began + timedelta(seconds=length_s), reason="cleared", **more))
        return rows

    # Watched from noon to midnight and from noon to six; a gap of two days is not watched.
    watched = [("a/1", (0, 360, 720, 3_600)), ("b/2", (0, 360))]
    for patient, minutes in watched:
        at = [NOON + timedelta(minutes=number) for number in minutes]
        append(data, VITAL_SIGN_MINUTE, *(minute(patient, HEART_RATE, "/min", one, 80.0) for one in at))
    spo2 = {"rule_id": "spo2-low", "code": SPO2, "category": "physiological"}
    muted = alarm("muted", 31, None)
    muted.append(transition("muted", 2, "silenced", NOON + timedelta(minutes=31), reason="inhibited"))
    append(
        data,
        ALERT_EVENT,
        *alarm("short", 10, 10),
        *alarm("again", 30, 100),
        *alarm("much later", 200, 400),
        transition("open", 0, "active", NOON + timedelta(minutes=205), patient="b/2", **spo2),
        *alarm("lead", 70, 20, rule_id="heart-rate-absent", category="technical"),
        transition("never", 0, "pending", NOON),
        transition("never", 1, "resolved", NOON + timedelta(seconds=5), reason="cleared"),
        *muted,
    )

    said, charts = executed("alarm_burden", data, monkeypatch)

    days = (720 + 360) / 1440
    for line in (
        f"5 alarms in {days:.2f} patient-days: {5 / days:.2f} per patient-day",
        "4 physiological, 1 technical; 1 more were muted from the first",
        "1 of 5 alarms repeat within an hour",
        "1 of 2 patients with alarms have half of them",
        # Two alarms in two patient-hours.
        "loudest hour: 12:00 UTC, 1.00 alarms per patient-hour",
        f"15 s more: 1 of 5 alarms not told, {4 / days:.2f} per patient-day left",
        f"30 s more: 2 of 5 alarms not told, {3 / days:.2f} per patient-day left",
        f"120 s more: 3 of 5 alarms not told, {2 / days:.2f} per patient-day left",
        f"300 s more: 3 of 5 alarms not told, {2 / days:.2f} per patient-day left",
    ):
        assert line in said, said
    rules = [line.split() for line in said.splitlines() if "physiological" in line or "technical" in line][1:]
    assert sorted(rules) == [
        ["heart-rate-absent", "technical", "1", "1", f"{1 / days:.2f}"],
        ["heart-rate-high", "physiological", "3", "1", f"{3 / days:.2f}"],
        ["spo2-low", "physiological", "1", "1", f"{1 / days:.2f}"],
    ]
    assert len(charts) == 3


# A model of risk


def test_a_model_of_simulated_episodes_is_looked_into(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = land(data, Options(NOON, patients=30, cadence=60, episodes_per_hour=12), minutes=90)

    said, charts = executed("risk_model", data, monkeypatch)

    rows = episodes.read(data, episodes.of_truth(truth), timedelta(minutes=6))
    people, ill = len(set(rows.patients)), len(set(rows.patients[rows.event]))
    assert "the height of a simulated episode within 6 minutes" in said
    assert f"{len(rows.event):,} landmarks of {people} patients; {rows.event.sum()} events, of {ill} patients" in said
    tenths = re.findall(r"^ *(0\.\d+|0) +(\d\.\d+) +(\d+)$", said, re.MULTILINE)
    assert sum(int(landmarks) for _, _, landmarks in tenths) == len(rows.event)
    assert len(tenths) == 10
    share = sum(float(share) * int(landmarks) for _, share, landmarks in tenths) / len(rows.event)
    assert share == pytest.approx(rows.event.mean(), abs=0.001)
    assert f"| gender | female | {(rows.groups['gender'] == 'female').sum()} |" in said
    assert re.search(r"^sim/1-000\d\d: risk 0\.\d\d, event: (yes|no)$", said, re.MULTILINE)
    ahead = re.search(r"threshold [\d.]+: (\d+) of (\d+) events told", said)
    assert ahead is not None
    stays = len(set(rows.stays[rows.event]))
    assert int(ahead[2]) == stays
    assert 0 < int(ahead[1]) <= stays
    assert [
        title in chart for title, chart in zip(("Calibration", "highest risk", "How far"), charts, strict=True)
    ] == [
        True,
        True,
        True,
    ]


# What was unusual


def test_a_patient_s_day_is_shown_with_what_was_unusual_and_what_an_artefact(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def value(number: int) -> float:
        return 130.0 if 200 <= number < 210 else 80.0 + number % 3

    at = [NOON + timedelta(minutes=number) for number in range(300)]
    append(data, VITAL_SIGN_MINUTE, *(minute("a/1", HEART_RATE, "/min", one, value(i)) for i, one in enumerate(at)))
    gone = (*at[:240], *at[250:])
    append(data, VITAL_SIGN_MINUTE, *(minute("a/1", SPO2, "%", one, 97.0) for one in gone))
    append(data, VITAL_SIGN_MINUTE, *(minute("b/2", HEART_RATE, "/min", one, 150.0) for one in at[:100]))

    said, charts = executed("anomalies", data, monkeypatch)

    assert "a/1, 2026-02-28 17:00 to 2026-03-01 17:00 UTC" in said
    assert "1 unusual stretches, 1 artefacts" in said
    lines = [line.split() for line in said.splitlines() if line.lstrip().startswith("2026-")]
    told = [(line[1], line[2], line[3]) for line in lines]
    assert told == [("15:20", "10", "unusual"), ("16:00", "10", "sensor_off")]
    assert lines[0][-3:-1] == ["130.0", "81.0"]
    for bound in (3, 5, 8):
        assert f"{bound} robust standard deviations: 1 unusual stretches" in said
    assert len(charts) == 1
    assert "Heart rate (/min)" in charts[0]
    assert "sensor_off" in charts[0]
