"""Messages to evaluation records: bands, faults and the exact JSON that the router reads."""

import json
import math

import pytest

from alerting.bands import arms, band_of, bands_sql
from alerting.pack import load
from lakehouse.transforms.message import parse
from lakehouse.transforms.observation import observations
from lakehouse.vocabulary import signals
from streaming.alert_limits import build
from tests.fixtures.vitals import encoded, heart_rate

ADULT = load("adult")


@pytest.fixture(scope="module")
def evaluate(records):
    """The (key, value) of the evaluation of each record that is a message, in their order."""

    def make(*values: bytes | None) -> list[tuple[str, str]]:
        rows = build(records(*values), ADULT).collect()
        return sorted((tuple(row) for row in rows), key=lambda row: json.loads(row[1])["offset"])

    return make


def text(*observations: str, head: str = '{"quiet":false', tail: str = "", **changes: str) -> str:
    """An evaluation of the usual message, as the bytes that Spark writes."""
    place = {"offset": "0", "status": "final"} | changes
    return (
        f'{head},"schema_version":1,"pack":"adult@2","message_id":"m1","partition":0,"offset":{place["offset"]},'
        '"received_at":1772366410000,"patient_id":"mrn/1","device_id":"monitor-1","source":"ward",'
        f'"observed_at":1772366400000,"status":"{place["status"]}",{tail}"observations":[{",".join(observations)}]}}'
    )


def test_a_quiet_message_begins_with_quiet_and_a_breach_names_rule_and_limit(evaluate):
    quiet = encoded(heart_rate(72), {"code": "59408-5", "value": 97, "unit": "%"})
    breach = encoded(heart_rate(121), {"code": "8310-5", "value": 101.3, "unit": "degF"}, status="amended")

    assert evaluate(quiet, breach) == [
        (
            "mrn/1",
            text(
                '{"code":"8867-4","value":72.0,"band":"normal"}',
                '{"code":"59408-5","value":97.0,"band":"normal"}',
                head='{"quiet":true',
            ),
        ),
        (
            "mrn/1",
            text(
                '{"code":"8867-4","value":121.0,"band":"breach","rule":"heart-rate-high","limit":120.0}',
                '{"code":"8310-5","value":38.5,"band":"margin","rule":"temperature-high","limit":38.5}',
                offset="1",
                status="amended",
            ),
        ),
    ]


def test_every_field_of_the_contract_is_passed_on_in_its_order(evaluate):
    whole = encoded(
        heart_rate(72),
        encounter_id="stay/9",
        location={"unit": "ICU", "bed": "4"},
        device_status={"battery": 12.5, "lead_off": False},
    )

    ((_, value),) = evaluate(whole)

    assert value == (
        '{"quiet":true,"schema_version":1,"pack":"adult@2","message_id":"m1","partition":0,"offset":0,'
        '"received_at":1772366410000,"patient_id":"mrn/1","encounter_id":"stay/9","device_id":"monitor-1","source":"ward",'
        '"location_unit":"ICU","location_bed":"4","observed_at":1772366400000,"status":"final","lead_off":false,'
        '"battery":12.5,"observations":[{"code":"8867-4","value":72.0,"band":"normal"}]}'
    )


def test_a_lead_that_is_off_is_never_quiet(evaluate):
    ((_, value),) = evaluate(encoded(heart_rate(72), device_status={"lead_off": True}))
    assert value == text('{"code":"8867-4","value":72.0,"band":"normal"}', tail='"lead_off":true,')


def test_a_coded_value_is_quiet_and_has_no_band(evaluate):
    ((_, value),) = evaluate(encoded({"code": "67775-7", "value_code": "V"}))
    assert value == text('{"code":"67775-7","value_code":"V","band":"none"}', head='{"quiet":true')


def test_a_value_that_silver_quarantines_has_no_band_no_value_and_its_fault(evaluate):
    cases = [
        (heart_rate(0), "sensor_disconnected"),
        (heart_rate(900), "out_of_range"),
        (heart_rate(math.nan), "not_finite"),
        (heart_rate(math.inf), "not_finite"),
        (heart_rate(150, unit="furlong"), "unknown_unit"),
        ({"code": "8867-4", "unit": "/min"}, "missing_value"),
        ({"code": "67775-7", "value_code": "X"}, "unknown_value_code"),
    ]

    found = evaluate(*(encoded(one) for one, _ in cases))

    assert [value for _, value in found] == [
        text(f'{{"code":"{one["code"]}","band":"none","fault":"{fault}"}}', offset=str(n))
        for n, (one, fault) in enumerate(cases)
    ]


def test_what_is_wrong_with_the_whole_message_is_wrong_with_each_value(evaluate):
    found = evaluate(
        encoded(heart_rate(150), heart_rate(151, code="8889-8"), observed_at="2026-03-01T12:30:00Z"),
        encoded(heart_rate(150), status="guess"),
        encoded(heart_rate(150), heart_rate(160)),
        encoded(None, heart_rate(72)),
    )

    assert [json.loads(value)["observations"] for _, value in found] == [
        [
            {"code": "8867-4", "band": "none", "fault": "clock_ahead"},
            {"code": "8889-8", "band": "none", "fault": "clock_ahead"},
        ],
        [{"code": "8867-4", "band": "none", "fault": "unknown_status"}],
        [{"code": "8867-4", "band": "none", "fault": "ambiguous_repeat"}] * 2,
        [{"band": "none", "fault": "unknown_code"}, {"code": "8867-4", "value": 72.0, "band": "normal"}],
    ]


def test_a_record_that_is_no_message_is_not_evaluated(evaluate):
    assert evaluate(None, b"", b"{", b"\xff", encoded(observations=[]), encoded(schema_version=2), b"x" * 300_000) == []


def test_units_of_the_ward_have_their_own_limits(evaluate):
    low = {"code": "59408-5", "value": 87, "unit": "%"}
    found = evaluate(*(encoded(low, location={"unit": unit}) for unit in ("RESP", "ICU")), encoded(low))
    assert [json.loads(value)["observations"][0] for _, value in found] == [
        {"code": "59408-5", "value": 87.0, "band": "margin", "rule": "spo2-low", "limit": 86.0},
        {"code": "59408-5", "value": 87.0, "band": "breach", "rule": "spo2-low", "limit": 90.0},
        {"code": "59408-5", "value": 87.0, "band": "breach", "rule": "spo2-low", "limit": 90.0},
    ]


def test_alerts_and_silver_agree_on_which_values_count_and_what_they_are(evaluate, records):
    values = [0, -1, -999, 8388607, 20.9, 21, 37.2, 90, 100, 100.1, 300, 500, math.nan, math.inf]
    texts = ["/min", "%", "1", "mmHg", "kPa", "degF", "Cel", "L/min", "parsec"]
    sent = [
        encoded(*({"code": s.code, "value": v, "unit": u, "record_id": str(v)} for v in values))
        for s in signals()
        for u in texts
    ]

    silver = observations(parse(records(*sent))).orderBy("offset").collect()
    landed = sorted((row.offset, row.record_id, row.value) for row in silver if not row.failed_constraints)
    faults = {(row.offset, row.record_id): row.failed_constraints[:1] for row in silver}
    held = [
        (body["offset"], str(values[n]), one)
        for _, value in evaluate(*sent)
        for body in [json.loads(value)]
        for n, one in enumerate(body["observations"])
    ]

    assert len(held) == len(sent) * len(values)
    assert sorted((offset, name, one["value"]) for offset, name, one in held if "value" in one) == landed
    assert [one.get("fault") for _, _, one in held] == [(faults[o, n] or [None])[0] for o, n, _ in held]


def test_spark_and_python_find_the_same_bands_at_and_beside_every_bound(frame):
    declared = arms(ADULT)
    bounds = {code: {arm.bound for its in by_unit.values() for arm in its} for code, by_unit in declared.items()}
    cases = [
        (signal.code, value, unit)
        for signal in signals()
        for bound in bounds.get(signal.code, {50.0})
        for value in (
            math.nextafter(bound, -1e9),
            bound,
            math.nextafter(bound, 1e9),
            None,
            math.nan,
            math.inf,
            -math.inf,
        )
        for unit in (None, "RESP", "ICU")
    ]
    rows = frame([(n, *case) for n, case in enumerate(cases)], "n INT, c STRING, v DOUBLE, u STRING")

    found = (
        rows.selectExpr("n", f"{bands_sql(ADULT, code='c', value='v', location_unit='u')} AS b")
        .orderBy("n")
        .select("b.*")
    )

    expected = [band_of(declared, *case) for case in cases]
    assert [tuple(row) for row in found.collect()] == [(b.band, b.rule, b.limit) for b in expected]
    assert {b.band for b in expected} == {"breach", "margin", "normal", "none"}
