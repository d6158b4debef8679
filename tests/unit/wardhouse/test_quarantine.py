"""What ``ward quarantine`` chooses, judges and refuses, on small real tables, without Spark."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lakehouse.correction import Change
from lakehouse.datadir import DataDir
from lakehouse.quarantine import Filters
from lakehouse.tables import DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE
from tests.fixtures.delta import append
from wardhouse.cli import app
from wardhouse.quarantine import Plan, Request, plan

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def land(data: DataDir, *observations: dict[str, Any], reason: str = "unknown_code", **changes: Any) -> None:
    """One quarantined value a message, each from a device of its own instant."""
    for number, observation in enumerate(observations):
        record = {"topic": "vitals", "partition": 0, "offset": number, "received_at": NOON}
        raw = json.dumps({"observations": [observation]}).encode()
        append(data, DEVICE_MESSAGE, record | {"value": raw})
        row = {
            "observation_id": bytes([number + 1]) * 16,
            "version": bytes([number + 1]) * 16,
            "patient_id": "mrn/1",
            "device_id": "monitor-1",
            "source": "ward",
            "code": observation["code"],
            "status": "final",
            "observed_at": NOON,
            "recorded_at": NOON,
            "source_value": observation["value"],
            "source_unit": observation["unit"],
            "unit": observation["unit"],
            "message_id": f"m{number}",
            "failed_constraints": [reason],
        }
        append(data, OBSERVATION_QUARANTINE, record | row | changes)


def planned(data: DataDir, change: Change) -> Plan:
    return plan(data, Request(Filters(), change, "anna", "why", 100), LATER)


@pytest.fixture
def silver(data: DataDir) -> DataDir:
    """A data dir whose silver has one value of another device."""
    other = {"patient_id": "mrn/1", "device_id": "monitor-2", "source": "ward", "code": "8867-4", "observed_at": NOON}
    append(data, OBSERVATION, other | {"observation_id": b"o" * 16, "version": b"o" * 16})
    return data


def test_what_today_s_constraints_would_still_refuse_is_not_sent(silver: DataDir) -> None:
    land(silver, {"code": "8867-4", "value": 720.0, "unit": "/min"}, {"code": "8867-4", "value": 80.0, "unit": "/min"})
    now_good = planned(silver, Change())
    assert [one.after["value"] for one in now_good.corrections] == [80.0]
    assert [why for _, why in now_good.refused] == ["it would still break out_of_range"]
    assert [one.after["value"] for one in planned(silver, Change(scale=0.1)).corrections] == [72.0, 8.0]


def test_a_value_does_not_take_the_place_of_another_under_the_code_it_should_have(silver: DataDir) -> None:
    wrong = {"code": "99999-9", "value": 72.0, "unit": "/min"}
    land(silver, wrong, wrong | {"value": 73.0})
    both = planned(silver, Change(code="8867-4"))
    # The first takes the place, and the second would replace it.
    assert [one.after["value"] for one in both.corrections] == [72.0]
    assert [why for _, why in both.refused] == [
        "its device gives 8867-4 at that instant already: it can only be entered in error"
    ]
    append(
        silver,
        OBSERVATION,
        {"patient_id": "mrn/1", "device_id": "monitor-1", "source": "ward", "code": "8867-4", "observed_at": NOON},
    )
    assert planned(silver, Change(code="8867-4")).corrections == ()


def ward(data: DataDir, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["quarantine", *arguments, "--data-dir", str(data.root)])


WHY = ("--reason", "why", "--by", "anna")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("fix", *WHY, "--unit", "Cel"), 2, "say which values"),
        (("fix", *WHY, "--device", "x"), 2, "say what changes"),
        (("fix", "--reason", " ", "--by", "anna", "--device", "x", "--unit", "Cel"), 2, "say why"),
        (("fix", *WHY, "--device", "x", "--unit", "furlong"), 2, "not in the vocabulary"),
        (("fix", *WHY, "--device", "x", "--code", "pulse"), 2, "no signal pulse"),
        (("fix", *WHY, "--device", "x", "--value", "1", "--scale", "2"), 2, "only one of these"),
        (("fix", *WHY, "--device", "x", "--value", "1"), 1, "nothing in quarantine matches"),
        (("fix", *WHY, "ff", "--value", "1"), 1, "no observation ff is in quarantine"),
        (("fix", *WHY, "01", "--value", "1000"), 1, "it would still break"),
        (("list", "--reason", "odd"), 2, "odd is not a constraint"),
        (("list", "--by", "ward"), 2, "known: reason, device, source, code"),
        (("budget", "--limit", "many"), 2, "give a share"),
        (("show", "xyz"), 1, "32 hexadecimal digits"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(silver: DataDir, arguments: tuple[str, ...], code: int, said: str) -> None:
    land(silver, {"code": "8867-4", "value": 720.0, "unit": "/min"}, reason="out_of_range")
    done = ward(silver, *arguments)
    assert done.exit_code == code
    assert said in " ".join(done.output.replace("│", " ").split())


def test_a_data_dir_without_tables_names_the_command_that_makes_them(data: DataDir) -> None:
    for arguments in (("list",), ("budget",), ("show", "01"), ("replay",)):
        done = ward(data, *arguments)
        assert (done.exit_code, "`ward apply --data-dir" in done.output) == (1, True)


def test_the_budget_ends_with_one_where_a_device_exceeds_it(silver: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardhouse.status.utc_now", lambda: LATER)
    values = [{"code": "8867-4", "value": float(value), "unit": "/min"} for value in (301, 302, 303)]
    land(silver, *values, reason="out_of_range")
    assert ward(silver, "budget").exit_code == 1
    assert "monitor-1 of ward  100.00% at fault, 3 of 3 values: out_of_range 100.00%" in ward(silver, "budget").output
    assert ward(silver, "budget", "--limit", "100%").exit_code == 0
    (day,) = json.loads(ward(silver, "budget", "--json").output)["device_days"]
    assert (day["faults"], day["exceeds"]) == (3, True)
