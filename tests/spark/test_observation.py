"""Messages to observations: values, units, identity, versions, and what goes to quarantine for which reason."""

import hashlib
import itertools
import math

import pytest

from lakehouse.tables import OBSERVATION
from lakehouse.transforms import message as messages
from lakehouse.transforms.observation import accepted, current_versions, dead_letters, observations, quarantined
from lakehouse.vocabulary import NO_VALUE_SENTINELS, signals, units
from tests.fixtures.vitals import encoded, heart_rate

SEPARATOR = "\x1f"


@pytest.fixture(scope="module")
def observe(records):
    """Every observation of these record values."""
    return lambda *values, **more: observations(messages.parse(records(*values, **more)))


def coded(code: str = "A", **more: object) -> dict:
    return {"code": "67775-7", "value_code": code} | more


def digest(*parts: object) -> bytes:
    return hashlib.md5(SEPARATOR.join(map(str, parts)).encode()).digest()  # noqa: S324 (an identity, no secret)


def test_a_message_becomes_one_row_for_each_value_with_all_that_it_says(observe):
    body = {
        "code": "8310-5",
        "value": 98.6,
        "unit": " DegF ",
        "source_code": "t1",
        "source_unit": "F",
        "record_id": "7",
    }
    whole = encoded(
        body,
        coded("V"),
        encounter_id="stay/9",
        location={"unit": "ICU", "bed": "4"},
        recorded_at="2026-03-01T12:00:05+00:00",
        status="preliminary",
    )
    rows = observe(whole)
    texts = [f"CAST({n} AS STRING) AS {n}" for n in ("observed_at", "received_at", "recorded_at")]
    found = accepted(rows).orderBy("value").drop("observation_id", "version").selectExpr("*").collect()
    instants = accepted(rows).orderBy("value").selectExpr(*texts).collect()

    common = {
        "patient_id": "mrn/1", "encounter_id": "stay/9", "device_id": "monitor-1", "source": "ward",
        "location_unit": "ICU", "location_bed": "4", "status": "preliminary", "recorded_at_inferred": False,
        "message_id": "m1", "values_in_message": 1, "topic": "vitals", "partition": 0, "offset": 0,
    }  # fmt: skip
    own = [
        {"code": "67775-7", "value": None, "value_code": "V", "unit": None, "source_code": None, "source_value": None,
         "source_unit": None, "record_id": None},
        {"code": "8310-5", "value": 37.0, "value_code": None, "unit": "Cel", "source_code": "t1", "source_value": 98.6,
         "source_unit": "F", "record_id": "7"},
    ]  # fmt: skip
    times = ("observed_at", "received_at", "recorded_at")
    assert [{k: v for k, v in row.asDict().items() if k not in times} for row in found] == [common | o for o in own]
    assert [tuple(row) for row in instants] == [
        ("2026-03-01 12:00:00", "2026-03-01 12:00:10", "2026-03-01 12:00:05")
    ] * 2
    assert accepted(rows).columns == [column.name for column in OBSERVATION.columns]
    assert (quarantined(rows).count(), dead_letters(rows).count()) == (0, 0)


def test_every_fault_has_its_own_reason_and_a_good_row_has_none(observe):
    cases = [
        (encoded(heart_rate()), []),
        (encoded(coded("U")), []),
        (encoded({"code": "3151-8", "value": 0, "unit": "L/min"}), []),
        (encoded(observed_at="2026-03-01T12:05:10Z"), []),
        (encoded(status="unheard-of"), ["unknown_status"]),
        (encoded(heart_rate(code="0-0")), ["unknown_code"]),
        (encoded({"code": "8867-4", "unit": "/min"}), ["missing_value"]),
        (encoded(coded("A", value=1)), ["missing_value"]),
        (encoded(heart_rate(math.nan)), ["not_finite"]),
        (encoded(heart_rate(math.inf)), ["not_finite"]),
        (encoded().replace(b"72.0", b"-1e400"), ["not_finite"]),
        (encoded(heart_rate(0)), ["sensor_disconnected"]),
        (encoded(heart_rate(unit="furlong")), ["unknown_unit"]),
        (encoded(heart_rate(unit="mmHg")), ["unknown_unit"]),
        (encoded({"code": "8867-4", "value": 72}), ["unknown_unit"]),
        (encoded(heart_rate(300)), ["out_of_range"]),
        (encoded(heart_rate(-23)), ["out_of_range"]),
        (encoded(coded("X")), ["unknown_value_code"]),
        (encoded({"code": "8867-4", "value_code": "A"}), ["unknown_value_code"]),
        (encoded({"code": "67775-7", "value": 1}), ["unknown_value_code"]),
        (encoded(observed_at="2026-03-01T12:05:10.000001Z"), ["clock_ahead"]),
        (encoded(observed_at="2150-03-01T12:00:00Z", source="mimic-iv"), []),
        (encoded(heart_rate(72), heart_rate(73)), ["ambiguous_repeat"]),
    ]

    rows = observe(*(value for value, _ in cases)).select("offset", "failed_constraints").distinct().orderBy("offset")

    assert [(cases[row.offset][0], row.failed_constraints) for row in rows.collect()] == cases
    named = [constraint.name for constraint in OBSERVATION.constraints]
    assert sorted({name for _, failed in cases for name in failed}) == sorted(named)


def test_a_null_or_an_empty_observation_is_quarantined_and_not_lost(observe):
    rows = observe(encoded(None), encoded({}), encoded(None, heart_rate())).orderBy("offset", "code")
    assert [(row.offset, row.code, row.failed_constraints) for row in rows.collect()] == [
        (0, None, ["unknown_code", "missing_value"]),
        (1, None, ["unknown_code", "missing_value"]),
        (2, None, ["unknown_code", "missing_value"]),
        (2, "8867-4", []),
    ]


def test_reasons_of_which_one_explains_the_other_never_come_together(observe):
    codes = ("8867-4", "3150-6", "3151-8", "67775-7", "0-0", None)
    values = (None, 0, -1, -100, -99.9, 8388607, 72, 5000, -5, math.nan, math.inf, -math.inf)
    value_codes = (None, "A", "X")
    texts = (None, "/min", "%", "1", "L/min", "furlong", "")
    grid = [
        {"code": code, "value": value, "value_code": value_code, "unit": unit, "record_id": str(number)}
        for number, (code, value, value_code, unit) in enumerate(itertools.product(codes, values, value_codes, texts))
    ]
    sent = [encoded(*grid[at : at + 250]) for at in range(0, len(grid), 250)]

    found = observe(*sent).select("failed_constraints").distinct().collect()

    together = {pair for row in found for pair in itertools.combinations(sorted(row.failed_constraints), 2)}
    apart = [
        ("not_finite", "out_of_range"),
        ("not_finite", "sensor_disconnected"),
        ("out_of_range", "sensor_disconnected"),
        ("out_of_range", "unknown_code"),
        ("unknown_code", "unknown_unit"),
        ("unknown_code", "unknown_value_code"),
    ]
    assert [pair for pair in apart if pair in together] == []
    assert ("sensor_disconnected", "unknown_unit") in together  # the grid does reach combinations


def test_what_monitors_send_for_no_reading_is_no_value_and_zero_only_where_zero_cannot_be(observe):
    numeric = [signal for signal in signals() if not signal.coded]
    values = (*NO_VALUE_SENTINELS, 0.0)
    sent = [{"code": s.code, "value": v, "unit": s.unit, "record_id": str(v)} for s in numeric for v in values]

    rows = (
        observe(*(encoded(one) for one in sent)).orderBy("offset").select("code", "source_value", "failed_constraints")
    )

    # No monitor means "no reading" by a zero of these; an oxygen flow of zero, a count of no cells, a verbal score that
    # cannot be tested and a risk of nothing are values.
    impossible = {"8310-5", "3150-6", "9269-2", "9267-6", "9268-4", "2339-0", "2019-8", "wardhouse-spo2-scale"}
    values = {"3151-8", "6690-2", "26508-2", "9270-0", "wardhouse-deterioration-risk"}

    def expected(code: str, value: float) -> list[str]:
        if value != 0:
            return ["sensor_disconnected"]
        return [] if code in values else ["out_of_range" if code in impossible else "sensor_disconnected"]

    assert [tuple(row) for row in rows.collect()] == [
        (one["code"], one["value"], expected(one["code"], one["value"])) for one in sent
    ]


def test_values_are_converted_to_two_decimals_and_kept_as_sent_where_nothing_is_converted(observe):
    cases = [
        ("8310-5", 98.6, "degF", 37.0, "Cel"),
        ("8310-5", 99.5, "[degF]", 37.5, "Cel"),
        ("8310-5", 101.3, "?F", 38.5, "Cel"),
        ("8310-5", 100.0, "°F", 37.78, "Cel"),
        ("8310-5", 36.123456, "Cel", 36.123456, "Cel"),
        ("8480-6", 16.0, "kPa", 120.01, "mm[Hg]"),
        ("8480-6", 120.5, "mm Hg", 120.5, "mm[Hg]"),
        ("3150-6", 0.21, "1", 21.0, "%"),
        ("3150-6", 0.415, "1", 41.5, "%"),
        ("3150-6", 40.0, "%", 40.0, "%"),
        ("3150-6", 1.0, "1", 100.0, "%"),
    ]

    rows = observe(*(encoded({"code": c, "value": v, "unit": u}) for c, v, u, _, _ in cases)).orderBy("offset")

    assert [tuple(r) for r in rows.select("code", "source_value", "source_unit", "value", "unit").collect()] == cases
    assert quarantined(rows).count() == 0


def test_a_unit_text_may_have_any_case_and_spaces_around_it(observe):
    texts = [shape for unit in units() for shape in (unit.text, unit.text.upper(), f"  {unit.text.title()} ")]
    rows = observe(*(encoded(heart_rate(unit=text)) for text in texts)).orderBy("offset").select("source_unit", "unit")
    wanted = [(text, next(u.unit for u in units() if u.text == text.strip().lower())) for text in texts]
    assert [tuple(row) for row in rows.collect()] == wanted


def test_identity_is_record_id_else_source_code_else_code_and_python_computes_the_same(observe):
    at = 1_772_366_400_000_000
    sent = [
        (heart_rate(72.0, record_id="r", source_code="s"), "r:r", "72.0"),
        (heart_rate(72.5, source_code="s"), "s:s", "72.5"),
        (heart_rate(73), "c:8867-4", "73.0"),
    ]

    rows = observe(*(encoded(one) for one, _, _ in sent)).orderBy("offset").select("observation_id", "version")

    assert [(bytes(row[0]), bytes(row[1])) for row in rows.collect()] == [
        (digest("ward", "mrn/1", "monitor-1", at, record), digest("m1", "final", "8867-4", number, "", "/min"))
        for _, record, number in sent
    ]


def test_identity_is_that_of_the_measurement_and_version_that_of_what_is_said_of_it(observe):
    base = {"message_id": "m1"}
    same_measurement = [
        base,
        {"message_id": "m2"},
        {"status": "amended"},
        {"encounter_id": "stay/1"},
        {"recorded_at": "2026-03-01T12:00:07Z"},
    ]
    another = [
        {"source": "other"},
        {"patient_id": "mrn/2"},
        {"device_id": "monitor-2"},
        {"observed_at": "2026-03-01T12:00:00.000001Z"},
    ]

    values = [encoded(**changes) for changes in (*same_measurement, *another)]
    values += [encoded(observed_at="2026-03-01T14:00:00+02:00"), encoded(heart_rate(73))]
    rows = [
        (bytes(r[0]), bytes(r[1]))
        for r in observe(*values).orderBy("offset").select("observation_id", "version").collect()
    ]

    first = rows[0]
    assert [row[0] == first[0] for row in rows] == [True] * 5 + [False] * 4 + [True, True]
    assert len({row[0] for row in rows}) == 5
    # A new message, status or value is a new version; another stay or recorded_at of the same message is not.
    assert [row[1] == first[1] for row in rows] == [True, False, False, True, True] + [True] * 4 + [True, False]


def test_parts_of_an_identity_cannot_run_into_each_other(observe):
    values = [encoded(source="ab", patient_id="c/1"), encoded(source="a", patient_id="bc/1")]
    assert observe(*values).select("observation_id").distinct().count() == 2


def test_a_value_given_twice_is_one_and_two_values_under_one_identity_are_ambiguous(observe):
    def count(*given: dict) -> list[int]:
        rows = observe(encoded(*given)).select("values_in_message").collect()
        return [row[0] for row in rows]

    assert count(heart_rate(72), heart_rate(72)) == [1, 1]
    assert count(heart_rate(72), heart_rate(73), heart_rate(73)) == [2, 2, 2]
    assert count(heart_rate(72, source_code="a"), heart_rate(73, source_code="b")) == [1, 1]
    assert count(heart_rate(72, record_id="a"), heart_rate(73, record_id="b")) == [1, 1]
    assert count(heart_rate(72), heart_rate(73), coded("A")) == [2, 2, 1]
    assert count(coded("A"), coded("V")) == [2, 2]


def test_two_signals_under_one_record_id_are_ambiguous_and_both_are_kept(observe):
    rows = observe(encoded(heart_rate(72, record_id="r"), heart_rate(72, record_id="r", code="8889-8")))
    found = quarantined(rows).orderBy("code").select("code", "values_in_message", "failed_constraints").collect()
    assert [tuple(row) for row in found] == [("8867-4", 2, ["ambiguous_repeat"]), ("8889-8", 2, ["ambiguous_repeat"])]


def test_recorded_at_is_observed_at_where_the_message_does_not_say_and_the_row_says_so(observe):
    rows = observe(encoded(), encoded(recorded_at="2026-03-01T12:00:07Z")).orderBy("offset")
    found = rows.selectExpr("CAST(recorded_at AS STRING)", "recorded_at_inferred").collect()
    assert [tuple(row) for row in found] == [("2026-03-01 12:00:00", True), ("2026-03-01 12:00:07", False)]


def test_a_dead_letter_stands_beside_the_observations_with_its_coordinates_alone(observe):
    rows = observe(b"{", encoded())
    letters = dead_letters(rows).selectExpr(
        "topic", "partition", "offset", "CAST(received_at AS STRING)", "reason", "detail"
    )
    assert [tuple(row) for row in letters.collect()] == [("vitals", 0, 0, "2026-03-01 12:00:10", "malformed_json", "{")]
    assert [row.offset for row in accepted(rows).collect()] == [1]
    assert quarantined(rows).collect() == []


def test_the_newest_version_is_current_by_recorded_at_and_then_by_place_in_bronze(observe):
    def correction(value: float, **more: object) -> bytes:
        return encoded(heart_rate(value, record_id="r"), message_id=f"m{value}", **more)

    late, later = {"recorded_at": "2026-03-01T12:00:05Z"}, {"recorded_at": "2026-03-01T12:00:06Z"}
    in_time = [correction(71, **later), correction(72), correction(73, **late)]
    unsaid = [correction(81, patient_id="mrn/2"), correction(82, patient_id="mrn/2")]

    rows = current_versions(observe(*in_time, *unsaid)).orderBy("patient_id").select("patient_id", "value")

    assert [tuple(row) for row in rows.collect()] == [("mrn/1", 71.0), ("mrn/2", 82.0)]
