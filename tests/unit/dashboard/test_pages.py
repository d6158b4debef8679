"""The pages Alerts, Alarm burden, Data quality, Research and Models, over small tables, by Streamlit's test runner."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.models.drift import Drift, reference
from lakehouse.models.evaluation import evaluate, out_of_fold
from lakehouse.models.gate import Gate
from lakehouse.models.registry import connect
from lakehouse.models.risk import fit
from lakehouse.snapshot import create
from lakehouse.tables import (
    ALERT,
    ALERT_EVENT,
    OBSERVATION,
    OBSERVATION_QUARANTINE,
    VALIDATION_RESULT,
    VITAL_SIGN_MINUTE,
)
from tests.fixtures.landmarks import QUICK, made_up
from tests.fixtures.marts import write_mart
from tests.unit.dashboard.test_app import NOON, alert, minute, run_page, texts

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

Write = Callable[..., None]
NOBODY_LISTENS = "127.0.0.1:1"


def _page(name: str, root: str, now: "datetime", servers: str | None) -> None:
    from importlib import import_module
    from pathlib import Path

    from alerting import pack
    from dashboard.access import LOCAL
    from dashboard.clock import zone
    from dashboard.desk import Brokers
    from lakehouse.datadir import DataDir

    data, here = DataDir(Path(root)), zone("Europe/London")
    given = {
        "alerts": (data, Brokers(servers, {}) if servers else None),
        "burden": (data, pack.load()),
        "quality": (data,),
        "research": (data,),
        "models": (data, None),
    }
    visitor = (LOCAL,) if name in ("alerts", "burden") else ()
    import_module(f"dashboard.views.{name}").page(*given[name], lambda: now, here, *visitor)


def page(name: str, data: DataDir, servers: str | None = None, **query: str) -> "AppTest":
    return run_page(_page, {"name": name, "root": str(data.root), "now": NOON, "servers": servers}, **query)


def shown(app: "AppTest", number: int = 0) -> list[dict[Any, Any]]:
    rows: list[dict[Any, Any]] = app.dataframe[number].value.to_dict("records")
    return rows


def metrics(app: "AppTest") -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def event(name: str, **more: Any) -> dict[str, Any]:
    changed = {"location_unit": "ICU", "location_bed": name, "reason": "breach", **more}
    return {**alert(f"a/{name}"), "alert_id": name, **changed}


def test_before_anything_is_stored_each_page_says_which_command_makes_it(data: DataDir) -> None:
    asked = {
        "alerts": "`ward up`",
        "burden": "`ward up`",
        "quality": "`ward quality run`",
        "research": "`ward dbt build`",
        "models": "`ward model train`",
    }
    for name, command in asked.items():
        assert any(command in text for text in texts(page(name, data))), name
    # Looking makes no registry.
    assert not data.models.exists()


def test_the_inbox_has_outstanding_alerts_the_gravest_first_and_none_that_nobody_was_told_of(
    data: DataDir, write: Write
) -> None:
    write(
        ALERT_EVENT,
        event("1"),
        event("2", priority="high", title="SpO2 low", rule_id="spo2-low"),
        event("3"),
        {**event("3", state="resolved", reason="cleared"), "sequence": 1},
        event("4", state="pending"),
        {**event("5", state="acknowledged", reason="acknowledged"), "actor": "nurse b"},
    )

    app = page("alerts", data)

    assert [(row["Priority"], row["Bed"], row["State"], row["By"]) for row in shown(app)] == [
        ("!!! high", "2", "active", None),
        ("!! medium", "1", "active", None),
        ("!! medium", "5", "acknowledged", "nurse b"),
    ]
    assert shown(app)[0]["Since"] == "11:55 GMT, 5 min ago"
    assert metrics(app)["Outstanding"] == "3"
    assert "nothing can be ordered: no broker is known" in app.warning[0].value


def test_filters_of_the_inbox_are_kept_in_the_address(data: DataDir, write: Write) -> None:
    write(ALERT_EVENT, event("1"), event("2", location_unit="MED"), event("3", location_unit="MED", state="pending"))

    app = page("alerts", data, unit="MED", state="pending")

    assert [row["Bed"] for row in shown(app)] == ["3"]
    app.multiselect(key="state").set_value([]).run()
    assert [row["Bed"] for row in shown(app)] == ["2"]
    app.multiselect(key="priority").set_value(["low"]).run()
    assert [text for text in texts(app) if text.startswith(("####", "2 are"))] == [
        "#### No alert is outstanding here",
        "2 are outstanding in all: take filters away to see them.",
    ]


def test_one_alert_tells_its_life_cycle_and_what_led_to_it(data: DataDir, write: Write) -> None:
    write(
        ALERT_EVENT,
        event("1"),
        {**event("1", state="acknowledged", reason="acknowledged"), "sequence": 1, "actor": "nurse b", "note": "there"},
    )

    app = page("alerts", data, alert="1")

    assert [(row["State"], row["Why"], row["By"], row["Note"]) for row in shown(app, 1)] == [
        ("active", "breach", None, None),
        ("acknowledged", "acknowledged", "nurse b", "there"),
    ]
    why = app.code[0].value
    assert "it opened at 131 /min, against a limit of 120 /min" in why
    assert "nurse b: there" in why


def test_an_alert_that_has_ended_can_still_be_read_from_a_link(data: DataDir, write: Write) -> None:
    write(ALERT_EVENT, event("1"), {**event("1", state="resolved", reason="cleared"), "sequence": 1})

    app = page("alerts", data, alert="1")

    assert "#### No alert is outstanding here" in texts(app)
    assert [row["State"] for row in shown(app)] == ["active", "resolved"]


def test_without_a_broker_the_inbox_is_what_is_stored_and_nobody_can_order(data: DataDir, write: Write) -> None:
    write(ALERT_EVENT, event("1"))

    app = page("alerts", data, NOBODY_LISTENS, alert="1")

    assert "nothing can be ordered: no broker answers (127.0.0.1:1" in app.warning[0].value
    assert [row["Bed"] for row in shown(app)] == ["1"]
    assert list(app.button) == []


def told(name: str, minutes_ago: int, **more: Any) -> dict[str, Any]:
    at = NOON - timedelta(minutes=minutes_ago)
    stands = {"active_at": at, "opened_at": at, "changed_at": at, "escalations": 0, "sequence": 0}
    left_out = {"observed_at", "emitted_at"}
    return {**{k: v for k, v in event(name).items() if k not in left_out}, **stands, **more}


def test_the_burden_is_counted_by_unit_rule_and_bed_beside_what_is_published(data: DataDir, write: Write) -> None:
    write(
        ALERT,
        told("1", 5),
        told("2", 6, location_bed="1"),
        told("3", 7, location_unit=None, location_bed=None, priority="high", rule_id="spo2-low", title="SpO2 low"),
        told("before", 2000),
        {**told("never", 5), "active_at": None},
    )
    write(VITAL_SIGN_MINUTE, *(minute("a/1", n, 70.0) for n in range(1, 1441)), minute("b/2", 3000, 70.0))

    app = page("burden", data)

    assert metrics(app) == {"Alarms": "3", "Bed-days watched": "1.00", "Per bed and day": "3.0", "Published": "187"}
    assert [(row["Unit"], row["Alarms"]) for row in shown(app, 0)] == [("ICU", 2), ("unknown", 1)]
    assert [(row["Rule"], row["Alarms"]) for row in shown(app, 1)] == [("heart-rate-high", 2), ("spo2-low", 1)]
    assert [(row["Unit"], row["Bed"], row["Alarms"]) for row in shown(app, 2)] == [
        ("ICU", "1", 2),
        ("unknown", "unknown", 1),
    ]
    app.multiselect(key="unit").set_value(["unknown"]).run()
    assert [row["Unit"] for row in shown(app, 0)] == ["unknown"]


def test_alarms_of_nobody_who_was_watched_have_no_rate(data: DataDir, write: Write) -> None:
    write(ALERT, told("1", 5))
    write(VITAL_SIGN_MINUTE, minute("a/1", 3000, 70.0))

    assert metrics(page("burden", data))["Per bed and day"] == "not known"


def test_a_period_without_anything_says_so(data: DataDir, write: Write) -> None:
    write(ALERT, told("1", 3000))
    write(VITAL_SIGN_MINUTE, minute("a/1", 3000, 70.0))

    app = page("burden", data)

    assert "#### Nothing was stored in this period" in texts(app)
    assert metrics(app.segmented_control(key="period").set_value("7 days").run())["Alarms"] == "1"


def value(name: bytes, device: str = "monitor-1", **more: Any) -> dict[str, Any]:
    at = NOON - timedelta(minutes=5)
    coordinates = {"topic": "vitals", "partition": 0, "offset": 0, "observed_at": at, "received_at": at}
    return {"observation_id": name, "version": name, "source": "ward", "device_id": device, **coordinates, **more}


def test_quality_holds_each_devices_day_against_the_budget(data: DataDir, write: Write) -> None:
    write(OBSERVATION, *(value(bytes([n])) for n in range(8)), value(b"calm", "monitor-2"))
    bad = [value(bytes([100 + n]), failed_constraints=["unknown_unit"]) for n in range(2)]
    write(OBSERVATION_QUARANTINE, *bad)

    app = page("quality", data)

    assert {
        name: metrics(app)[name] for name in ("Values received", "In quarantine", "Device days over the limit")
    } == {
        "Values received": "11",
        "In quarantine": "2",
        "Device days over the limit": "1",
    }
    of_devices = next(frame.value for frame in app.dataframe if "Device" in frame.value)
    assert [(row["Device"], row["At fault"], row["Limit"]) for row in of_devices.to_dict("records")] == [
        ("monitor-1", 2, "! over")
    ]


def test_quality_tells_how_far_flows_are_and_how_old_tables(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 1, 70.0))
    said = {"at": (NOON - timedelta(seconds=30)).isoformat(), "rows": 60, "lag": 7, "duration_ms": 1000}
    progress.append(data.progress("device_message"), said)

    app = page("quality", data)

    flows = {row["Flow"]: row for row in shown(app, 0)}
    assert (flows["device_message"]["Lag"], flows["device_message"]["Heard"]) == (7, "30 s ago")
    assert flows["observation"]["Heard"] == "never"
    tables = {row["Table"]: row for row in shown(app, 1)}
    assert tables["silver.observation"]["Written"] == "never"
    assert tables["gold.vital_sign_minute"]["Written"] != "never"


def checked(run: str, expectation: str, minutes_ago: int, *, success: bool) -> dict[str, Any]:
    at = NOON - timedelta(minutes=minutes_ago)
    table = {"table_name": "silver.observation", "table_version": 1, "unexpected_count": 0 if success else 3}
    return {"run_id": run, "expectation": expectation, "success": success, "checked_at": at, **table}


def test_quality_shows_what_the_newest_run_of_checks_found_broken(data: DataDir, write: Write) -> None:
    write(
        VALIDATION_RESULT,
        checked("old", "out_of_range", 120, success=False),
        checked("new", "out_of_range", 5, success=True),
        checked("new", "repeated_key", 5, success=False),
    )

    app = page("quality", data)

    assert {name: metrics(app)[name] for name in ("Rules checked", "Broken", "Checked")} == {
        "Rules checked": "2",
        "Broken": "1",
        "Checked": "11:55 GMT",
    }
    assert shown(app, len(app.dataframe) - 1) == [
        {"Table": "silver.observation", "Rule": "repeated_key", "Rows": 3, "Found": None}
    ]


def stay(number: int, **more: Any) -> dict[str, Any]:
    return {"patient_id": f"a/{number}", "stay_id": f"s{number}", **more}


@pytest.fixture
def cohort(data: DataDir) -> DataDir:
    """Twelve men and three women in one unit, and a cohort that only two are in."""
    people = [stay(n, gender="male" if n < 12 else "female", care_unit="ICU", age=60 + n) for n in range(15)]
    write_mart(data, "icu_stay", *people)
    write_mart(data, "cohort_adult_first_icu_stay", {"patient_id": "a/1"}, {"patient_id": "a/2"})
    return data


def test_research_tells_sizes_and_no_small_cell(cohort: DataDir) -> None:
    app = page("research", cohort)

    assert [(row["Table"], row["Patients"], row["Rows"]) for row in shown(app)] == [
        ("mart.cohort_adult_first_icu_stay", "fewer than 11", ""),
        ("mart.icu_stay", "15", "15"),
    ]
    assert app.selectbox(key="cohort").options == ["mart.icu_stay"]
    # The women are few; were the men shown, the total would tell how many.
    app.selectbox(key="column").set_value("gender").run()
    assert "#### Every cell is small" in texts(app)
    app.selectbox(key="column").set_value("care_unit").run()
    assert any("here 0." in text for text in texts(app))
    assert 'reader.open(data, "mart.icu_stay", version=0)' in app.code[0].value


def test_research_lists_snapshots_with_their_citation_and_how_to_open_them(data: DataDir, write: Write) -> None:
    write(VALIDATION_RESULT, checked("new", "out_of_range", 5, success=True))
    made = create(data, "paper", NOON, software={"wardhouse": "1"}, configuration={})

    app = page("research", data)

    assert shown(app)[0]["Snapshot"] == "paper"
    assert [block.value for block in app.code][:2] == [made.citation["plain"], made.citation["bibtex"]]
    assert 'reader.open(pinned, "quality.validation_result")' in app.code[2].value


def test_models_tells_of_the_version_in_service_beside_news2_its_calibration_and_its_drift(data: DataDir) -> None:
    rows = made_up()
    model = fit(rows.x, rows.event, rows.patients, QUICK, seed=1)
    risks = out_of_fold(rows, QUICK)
    then = reference(rows.x, risks[0], rows.patients)
    registry = connect(data, None)
    good = evaluate(rows, risks, QUICK)
    made = registry.register(model, good, QUICK, then, {}, None)
    registry.register(model, good, QUICK, then, {}, None)
    registry.promote(made.version, Gate(calibration_error=1.0))
    registry.note(made, [Drift("age", 0.4, 0.3, 0.0, 0.0), Drift("risk", 0.1, 0.3, 0.0, 0.0)], NOON)

    app = page("models", data)

    assert app.selectbox[0].value == "1 of " + f"{made.created_at:%Y-%m-%d}, in service"
    assert shown(app)[0][""] == "model"
    assert shown(app)[0]["AUROC"] == good.of("model").auroc.value
    calibration, drift = (json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart"))
    assert calibration["title"]["text"] == "Calibration: tenths of the landmarks"
    assert drift["title"]["text"] == "Drift: what has moved furthest from the training"
    assert "1 of 2 are beyond their limits. Looked at 12:00 GMT, 0 s ago." in texts(app)

    app.selectbox[0].select_index(0).run()

    assert any("Nobody has looked for drift of this version" in text for text in texts(app))


def test_models_says_what_is_lost_of_a_version(data: DataDir) -> None:
    rows = made_up()
    model = fit(rows.x, rows.event, rows.patients, QUICK, seed=1)
    risks = out_of_fold(rows, QUICK)
    then = reference(rows.x, risks[0], rows.patients)
    connect(data, None).register(model, evaluate(rows, risks, QUICK), QUICK, then, {}, None)
    for evaluation in data.models.glob("files/*/artifacts/evaluation.json"):
        evaluation.unlink()
    assert any("version 1 has lost its evaluation.json" in text for text in texts(page("models", data)))
