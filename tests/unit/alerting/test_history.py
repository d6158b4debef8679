from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from alerting.evaluation import Evaluation, Reading
from alerting.history import Device, Place, devices, evaluations, usable
from alerting.limits import LimitError, OwnLimits
from lakehouse.tables import DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE
from tests.fixtures.delta import arrow
from tests.fixtures.packs import kinds_pack

KINDS = kinds_pack()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = round(NOON.timestamp() * 1000)
HR, SPO2, TEMPERATURE, ACVPU = "8867-4", "59408-5", "8310-5", "67775-7"
Row = dict[str, Any]


def value(code: str | None, number: float | None, offset: int = 0, seconds: float = 0, **more: Any) -> Row:
    return {
        "topic": "vitals",
        "partition": 1,
        "offset": offset,
        "patient_id": "hospital/7",
        "device_id": "monitor-1",
        "source": "simulator",
        "location_unit": "MED",
        "location_bed": "MED-03",
        "code": code,
        "value": number,
        "status": "final",
        "observed_at": NOON + timedelta(seconds=seconds),
        "received_at": NOON + timedelta(seconds=seconds + 1),
        "recorded_at": NOON + timedelta(seconds=seconds),
        "message_id": f"m{offset}",
        **more,
    }


def made(good: list[Row], bad: list[Row] | None = None, **more: Any) -> list[Evaluation]:
    quarantined = None if bad is None else arrow(OBSERVATION_QUARANTINE, *bad)
    return list(evaluations(arrow(OBSERVATION, *good), quarantined, KINDS, **more))


def readings(found: list[Evaluation]) -> list[list[tuple[str, str, float | None, str | None]]]:
    return [[(one.code, one.band, one.value, one.rule) for one in each.readings] for each in found]


def test_values_of_one_message_come_back_as_its_evaluation_with_what_was_quarantined() -> None:
    bad = value(SPO2, 0.0, failed_constraints=["sensor_disconnected", "out_of_range"])
    unnamed = value(None, 1.0, failed_constraints=["unknown_code"])
    coded = value(ACVPU, None, value_code="V")
    assert made([value(TEMPERATURE, 38.6), coded, value(HR, 118.0)], [bad, unnamed]) == [
        Evaluation(
            pack="kinds@1",
            message_id="m0",
            patient_id="hospital/7",
            device_id="monitor-1",
            source="simulator",
            status="final",
            partition=0,
            offset=0,
            observed_at=NOON_MS,
            received_at=NOON_MS + 1000,
            readings=(
                Reading(SPO2, "none", fault="sensor_disconnected"),
                Reading(ACVPU, "none", value_code="V"),
                Reading(TEMPERATURE, "breach", 38.6, "temperature-high", 38.5),
                Reading(HR, "margin", 118.0, "heart-rate-high", 120.0),
            ),
            quiet=False,
            location_unit="MED",
            location_bed="MED-03",
        )
    ]


def test_messages_come_in_the_order_in_which_the_broker_had_them_and_are_counted() -> None:
    rows = [
        value(HR, 80.0, offset=3, seconds=2),
        value(HR, 81.0, offset=2, seconds=1),
        value(HR, 82.0, offset=9, seconds=0, received_at=NOON + timedelta(minutes=20)),
        value(HR, 83.0, offset=2, seconds=1, topic="other"),
        value(SPO2, 97.0, offset=2, seconds=1),
    ]
    found = made(rows)
    assert [(one.offset, one.partition, [seen.value for seen in one.readings]) for one in found] == [
        (0, 0, [83.0]),
        (1, 0, [97.0, 81.0]),
        (2, 0, [80.0]),
        (3, 0, [82.0]),
    ]
    by_device = made(rows, arrival="observed_at")
    assert [one.readings[0].value for one in by_device] == [82.0, 83.0, 97.0, 80.0]
    assert by_device[0].received_at == by_device[0].observed_at == NOON_MS


def test_a_message_is_quiet_when_every_value_is_normal_and_no_lead_is_off() -> None:
    place = Place("vitals", 1, 0)
    normal = [value(HR, 80.0), value(ACVPU, None, value_code="A")]
    assert made(normal)[0].quiet
    off = made(normal, devices={place: Device(lead_off=True, battery=40.0)})[0]
    assert (off.quiet, off.lead_off, off.battery) == (False, True, 40.0)
    assert made(normal, devices={place: Device(battery=40.0)})[0].quiet
    assert not made(normal, [value(SPO2, 0.0, failed_constraints=["sensor_disconnected"])])[0].quiet
    # A message of which every value is quarantined was heard all the same.
    assert readings(made([], [value(SPO2, 0.0, failed_constraints=["out_of_range"])])) == [[(SPO2, "none", None, None)]]


def test_the_limit_of_a_unit_and_from_when_they_were_set_the_patients_own_are_in_force() -> None:
    resp = value(SPO2, 88.0, location_unit="RESP")
    assert readings(made([resp])) == [[(SPO2, "normal", 88.0, None)]]
    own = OwnLimits("hospital/7", SPO2, None, 85.0, set_at=NOON_MS + 5000)
    other = value(SPO2, 88.0, offset=2, seconds=9, patient_id="hospital/8")
    found = made([value(SPO2, 88.0), value(SPO2, 88.0, offset=1, seconds=5), other], own=[own])
    assert readings(found) == [
        [(SPO2, "breach", 88.0, "spo2-low")],
        [(SPO2, "normal", 88.0, None)],
        [(SPO2, "breach", 88.0, "spo2-low")],
    ]
    assert [one.readings[0].own_limit for one in found] == [False, True, False]


def test_own_limits_that_the_pack_does_not_take_are_named_and_not_used() -> None:
    good = OwnLimits("hospital/7", SPO2, None, 85.0, set_at=0)
    bad = OwnLimits("hospital/7", SPO2, 95.0, None, set_at=0)
    assert usable(KINDS, [good, bad]) == (
        (good,),
        ("hospital/7: the pack has no high limit of spo2 that could be replaced",),
    )
    with pytest.raises(LimitError, match="no high limit of spo2"):
        made([value(SPO2, 88.0)], own=[bad])


def test_nothing_gives_nothing() -> None:
    assert made([], []) == made([]) == []


def test_many_patients_go_through_in_one_pass_beyond_one_batch() -> None:
    seconds = pa.array(range(70_000), pa.int64())
    instants = pa.array([NOON_MS * 1000 + n * 1_000_000 for n in range(70_000)], pa.timestamp("us", "UTC"))
    one = arrow(OBSERVATION, value(HR, 80.0))
    whole = pa.table(
        {name: pa.concat_arrays([one.column(name).combine_chunks()] * 70_000) for name in one.column_names}
    )
    for name, column in (("offset", seconds), ("received_at", instants)):
        whole = whole.set_column(whole.column_names.index(name), name, column)
    both = whole.set_column(whole.column_names.index("code"), "code", pa.array([SPO2] * 70_000))
    found = list(evaluations(pa.concat_tables([both, whole]), None, KINDS))
    assert len(found) == 70_000
    assert {tuple(seen.code for seen in each.readings) for each in found} == {(SPO2, HR)}
    assert [each.offset for each in found] == list(range(70_000))


def test_what_devices_say_of_themselves_is_read_from_the_messages() -> None:
    bodies = [
        b'{"device_status": {"battery": 15, "lead_off": true}}',
        b'{"device_status": {"lead_off": false}}',
        b'{"device_status": null}',
        b"{}",
        b"no JSON",
        b"[1]",
        None,
        b'{"device_status": {"battery": "low"}}',
    ]
    rows = [{"topic": "vitals", "partition": 0, "offset": n, "value": body} for n, body in enumerate(bodies)]
    assert devices(arrow(DEVICE_MESSAGE, *rows)) == {
        Place("vitals", 0, 0): Device(True, 15.0),
        Place("vitals", 0, 1): Device(False, None),
    }
