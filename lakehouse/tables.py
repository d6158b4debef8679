"""Every table of the lakehouse, declared.

Times: ``observed_at`` is the device's, ``received_at`` the broker's, ``recorded_at`` when this version became known.
"""

from datetime import timedelta

from lakehouse.scores import PARTS, RISKS, SCORES, STALE_AFTER
from lakehouse.table import Column, Constraint, Table
from lakehouse.vocabulary import CONSCIOUSNESS, NO_VALUE_SENTINELS, Signal, signals, sources

CLOCK_SKEW = timedelta(minutes=5)
"""How far a device's clock may run ahead of the broker's. Ward monitors are synchronised to seconds; five minutes is
what an unsynchronised one drifts in some weeks, and little enough that a wrong date or zone never passes."""

STATUSES = ("final", "preliminary", "amended", "corrected", "entered-in-error")
"""FHIR observation statuses that a message may carry."""

COORDINATES = (
    Column("topic", "STRING", "Kafka topic, or file:SOURCE/NAME@SHA for a backfilled file", nullable=False),
    Column("partition", "INT", "Kafka partition; 0 for a file", nullable=False),
    Column("offset", "BIGINT", "Kafka offset; line number for a file", nullable=False),
)
"""Where a row comes from: the bronze record it was made of."""


def _texts(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def _bounds(signal: Signal) -> str:
    limits = (
        (">", signal.above),
        (">=", signal.at_least),
        ("<", signal.below),
        ("<=", signal.at_most),
    )
    return " AND ".join(f"$value {operator} {limit:g}" for operator, limit in limits if limit is not None)


def _by_bounds() -> str:
    """CASE arms, one for each set of codes that share plausible bounds."""
    codes_of: dict[str, list[str]] = {}
    for signal in signals():
        if not signal.coded:
            codes_of.setdefault(_bounds(signal), []).append(signal.code)
    return " ".join(f"WHEN $code IN ({_texts(tuple(codes))}) THEN {bounds}" for bounds, codes in codes_of.items())


def _by_unit() -> str:
    """CASE arms, one for each UCUM unit and the codes that are kept in it."""
    codes_of: dict[str, list[str]] = {}
    for signal in signals():
        if signal.unit:
            codes_of.setdefault(signal.unit, []).append(signal.code)
    return " ".join(f"WHEN $code IN ({_texts(tuple(codes))}) THEN $unit = '{unit}'" for unit, codes in codes_of.items())


_CODED = tuple(signal.code for signal in signals() if signal.coded)
_KNOWN = f"$code IN ({_texts(tuple(signal.code for signal in signals()))})"
_ZERO_IS_NO_VALUE = tuple(signal.code for signal in signals() if signal.zero_is_no_value)
_SENTINEL = (
    f"$source_value IN ({', '.join(f'{value}D' for value in NO_VALUE_SENTINELS)})"
    f" OR ($source_value = 0D AND $code IN ({_texts(_ZERO_IS_NO_VALUE)}))"
)
_FINITE = "NOT isnan($value) AND abs($value) < double('Infinity')"
_SHIFTED = tuple(source.name for source in sources() if source.shifted)

# Each condition holds where another already names the fault, so that a row in quarantine gives its one true reason.
OBSERVATION_CONSTRAINTS = (
    Constraint("unknown_status", f"coalesce($status IN ({_texts(STATUSES)}), false)", "not a FHIR observation status"),
    Constraint("unknown_code", f"coalesce({_KNOWN}, false)", "no signal of the vocabulary has this code"),
    Constraint(
        "missing_value",
        "($value IS NULL) <> ($value_code IS NULL)",
        "neither or both of value and value_code are given",
    ),
    Constraint("not_finite", f"coalesce({_FINITE}, true)", "the value is NaN or infinite"),
    Constraint(
        "sensor_disconnected",
        f"NOT coalesce({_SENTINEL}, false)",
        "the value is what a monitor sends for: no reading",
    ),
    Constraint(
        "unknown_unit",
        f"$value IS NULL OR NOT coalesce({_KNOWN}, false) OR coalesce(CASE {_by_unit()} ELSE true END, false)",
        "the unit is missing, unknown, or not one this signal is measured in",
    ),
    Constraint(
        "out_of_range",
        f"coalesce($unit IS NULL OR ({_SENTINEL}) OR NOT ({_FINITE}) OR CASE {_by_bounds()} ELSE true END, true)",
        "the value is not plausible for this signal",
    ),
    Constraint(
        "unknown_value_code",
        f"coalesce(CASE WHEN $code IN ({_texts(_CODED)}) THEN $value_code IN ({_texts(CONSCIOUSNESS)})"
        f" WHEN {_KNOWN} THEN $value_code IS NULL ELSE true END, false)",
        "the signal is coded and the code is not of its list, or a number was expected",
    ),
    Constraint(
        "clock_ahead",
        f"coalesce($observed_at <= $received_at + INTERVAL {int(CLOCK_SKEW.total_seconds())} SECONDS"
        f" OR $source IN ({_texts(_SHIFTED)}), false)",
        "the device's clock runs ahead of ours by more than the allowed skew",
    ),
    Constraint(
        "ambiguous_repeat",
        "coalesce($values_in_message = 1, false)",
        "its message gives another value under the same observation_id",
    ),
)

_OBSERVATION_COLUMNS = (
    Column("observation_id", "BINARY", "16 bytes: hash of source, patient, device, instant and record", nullable=False),
    Column("version", "BINARY", "16 bytes: hash of message_id, status and value", nullable=False),
    Column("patient_id", "STRING", "system/value", nullable=False),
    Column("encounter_id", "STRING", "the stay, where the message names it"),
    Column("device_id", "STRING", "the device that measured", nullable=False),
    Column("source", "STRING", "the system that sent it", nullable=False),
    Column("location_unit", "STRING", "care unit, where the message names it"),
    Column("location_bed", "STRING", "bed, where the message names it"),
    Column("code", "STRING", "LOINC"),
    Column("value", "DOUBLE", "in unit; NULL for a coded value"),
    Column("value_code", "STRING", "a coded value, such as A C V P U"),
    Column("unit", "STRING", "UCUM; NULL for a coded value"),
    Column("status", "STRING", "FHIR observation status"),
    Column("observed_at", "TIMESTAMP", "when the device measured", nullable=False),
    Column("received_at", "TIMESTAMP", "when the broker had it", nullable=False),
    Column("recorded_at", "TIMESTAMP", "when this version became known", nullable=False),
    Column(
        "recorded_at_inferred", "BOOLEAN", "true: the source did not say, recorded_at = observed_at", nullable=False
    ),
    Column("source_code", "STRING", "the source's own code, such as a MIMIC item id"),
    Column("source_value", "DOUBLE", "the number as sent, in source_unit"),
    Column("source_unit", "STRING", "the unit text as sent"),
    Column("record_id", "STRING", "the source's own key of this value"),
    Column("message_id", "STRING", "the message that brought this version", nullable=False),
    Column("values_in_message", "INT", "different values its message gives under this observation_id", nullable=False),
    *COORDINATES,
)

DEVICE_MESSAGE = Table(
    layer="bronze",
    name="device_message",
    grain="one Kafka record, raw bytes",
    columns=(
        *COORDINATES,
        Column("received_at", "TIMESTAMP", "the record's timestamp: when the broker had it", nullable=False),
        Column("key", "BINARY", "record key as sent"),
        Column("value", "BINARY", "record value as sent; NULL for a tombstone"),
    ),
    key=("topic", "partition", "offset"),
    retention=timedelta(days=400),
)

OBSERVATION = Table(
    layer="silver",
    name="observation",
    grain="one version of one measured value",
    columns=_OBSERVATION_COLUMNS,
    key=("observation_id", "version"),
    cluster_by=("observed_at",),
    constraints=OBSERVATION_CONSTRAINTS,
)

OBSERVATION_QUARANTINE = Table(
    layer="silver",
    name="observation_quarantine",
    grain="one parsed value that breaks a constraint",
    columns=(
        *_OBSERVATION_COLUMNS,
        Column("failed_constraints", "ARRAY<STRING>", "names of the constraints it breaks", nullable=False),
    ),
    key=("observation_id", "version"),
    cluster_by=("received_at",),
)

DEAD_LETTER = Table(
    layer="silver",
    name="dead_letter",
    grain="one record that could not be parsed; its bytes stay in bronze",
    columns=(
        *COORDINATES,
        Column("received_at", "TIMESTAMP", "when the broker had it", nullable=False),
        Column("reason", "STRING", "why it could not be parsed", nullable=False),
        Column("detail", "STRING", "what to look at"),
    ),
    key=("topic", "partition", "offset"),
)

_RESOURCE_VERSION = Column(
    "version", "BINARY", "16 bytes: hash of the resource and when it became known", nullable=False
)
_RESOURCE_COLUMNS = (
    Column("resource", "STRING", "the FHIR resource as JSON, whole", nullable=False),
    Column("source", "STRING", "the system that sent it", nullable=False),
    Column("recorded_at", "TIMESTAMP", "when this version became known", nullable=False),
    Column(
        "recorded_at_inferred", "BOOLEAN", "true: the source did not say, recorded_at = received_at", nullable=False
    ),
    Column("received_at", "TIMESTAMP", "when the broker had it", nullable=False),
    *COORDINATES,
)

WAVEFORMS_KEPT = timedelta(days=30)
"""A lead in chunks of a second takes 18 MB a day in silver, and 25 in bronze."""

WAVEFORM_MESSAGE = Table(
    layer="bronze",
    name="waveform_message",
    grain="one Kafka record of a waveform, raw bytes",
    columns=DEVICE_MESSAGE.columns,
    key=DEVICE_MESSAGE.key,
    retention=WAVEFORMS_KEPT,
)

WAVEFORM_CHUNK = Table(
    layer="silver",
    name="waveform_chunk",
    grain="some seconds of one lead, without a gap, as the converter gave them",
    columns=(
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("device_id", "STRING", "the device that measured", nullable=False),
        Column("lead", "STRING", "code of ISO/IEEE 11073-10101 (MDC)", nullable=False),
        Column("started_at", "TIMESTAMP", "when the first sample was taken", nullable=False),
        Column("ended_at", "TIMESTAMP", "when the sample after the last is due", nullable=False),
        Column("rate", "DOUBLE", "samples a second", nullable=False),
        Column("unit", "STRING", "UCUM: mV, uV, V", nullable=False),
        Column("gain", "DOUBLE", "steps of the converter per unit", nullable=False),
        Column("baseline", "DOUBLE", "the step that stands for 0", nullable=False),
        Column("lowest", "DOUBLE", "lowest step of the converter; NULL where the sender does not say"),
        Column("highest", "DOUBLE", "highest step of the converter; NULL where the sender does not say"),
        Column("samples", "INT", "how many there are", nullable=False),
        Column("packed", "BINARY", "the samples, as lakehouse.ecg.chunk.unpacked takes them", nullable=False),
        Column("digest", "BINARY", "16 bytes: hash of scale and samples", nullable=False),
        Column("source", "STRING", "the system that sent it", nullable=False),
        Column("message_id", "STRING", "the message that brought it", nullable=False),
        Column("received_at", "TIMESTAMP", "when the broker had it", nullable=False),
        *COORDINATES,
    ),
    key=("patient_id", "device_id", "lead", "started_at", "digest"),
    cluster_by=("patient_id", "started_at"),
    constraints=(
        Constraint("no_samples", "$samples > 0", "there is at least one sample"),
        Constraint("no_rate", "$rate > 0", "samples have a rate"),
        Constraint("unordered_instants", "$ended_at > $started_at", "a chunk ends after it began"),
        Constraint(
            "clock_ahead",
            f"coalesce($ended_at <= $received_at + INTERVAL {int(CLOCK_SKEW.total_seconds())} SECONDS"
            f" OR $source IN ({_texts(_SHIFTED)}), false)",
            "the device's clock runs ahead of ours by more than the allowed skew",
        ),
    ),
    retention=WAVEFORMS_KEPT,
)

WAVEFORM_DEAD_LETTER = Table(
    layer="silver",
    name="waveform_dead_letter",
    grain="one record that is no chunk of a waveform; its bytes stay in bronze",
    columns=DEAD_LETTER.columns,
    key=DEAD_LETTER.key,
)

PATIENT = Table(
    layer="silver",
    name="patient",
    grain="one version of one patient (FHIR R4 Patient)",
    columns=(
        Column("patient_id", "STRING", "system/value", nullable=False),
        _RESOURCE_VERSION,
        Column("gender", "STRING", "FHIR administrative gender: male, female, other or unknown"),
        Column("birth_year", "INT", "year of birth"),
        Column("birth_date", "DATE", "day of birth; NULL where only the month or year is known"),
        Column("deceased_on", "DATE", "day of death, in or out of hospital; NULL where none is known"),
        *_RESOURCE_COLUMNS,
    ),
    key=("patient_id", "version"),
)

ENCOUNTER = Table(
    layer="silver",
    name="encounter",
    grain="one version of one encounter (FHIR R4 Encounter): a hospital admission, or a stay in a unit within one",
    columns=(
        Column("encounter_id", "STRING", "system/value", nullable=False),
        _RESOURCE_VERSION,
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("part_of", "STRING", "the encounter that it is part of: of a stay, the admission"),
        Column("status", "STRING", "FHIR encounter status, such as in-progress or finished", nullable=False),
        Column("class", "STRING", "HL7 ActCode: IMP for an admission, ACUTE for a stay in a critical care unit"),
        Column("type", "STRING", "kind of admission in the source's words"),
        Column("location", "STRING", "the (first) place: care unit, and bed where it is known"),
        Column("started_at", "TIMESTAMP", "start of the period"),
        Column("ended_at", "TIMESTAMP", "end of the period; NULL while it lasts"),
        Column("admit_source", "STRING", "where the patient came from, in the source's words"),
        Column("discharge_disposition", "STRING", "where the patient went, in the source's words"),
        Column("died", "BOOLEAN", "discharge disposition exp: died in hospital; NULL where nothing is said"),
        *_RESOURCE_COLUMNS,
    ),
    key=("encounter_id", "version"),
)

CLINICAL_RESOURCE = Table(
    layer="silver",
    name="clinical_resource",
    grain="one version of one other FHIR R4 resource, such as a Condition or an Appointment",
    columns=(
        Column("resource_type", "STRING", "FHIR type, such as Condition", nullable=False),
        Column("resource_id", "STRING", "system/value", nullable=False),
        _RESOURCE_VERSION,
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("encounter_id", "STRING", "system/value, where it names one"),
        *_RESOURCE_COLUMNS,
    ),
    key=("resource_type", "resource_id", "version"),
)

VITAL_SIGN_MINUTE = Table(
    layer="gold",
    name="vital_sign_minute",
    grain="one patient, code and minute; the current versions, without those entered in error",
    columns=(
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("code", "STRING", "LOINC", nullable=False),
        Column("minute", "TIMESTAMP", "start of the minute in which the values were observed", nullable=False),
        Column("unit", "STRING", "UCUM", nullable=False),
        Column("count", "BIGINT", "number of values", nullable=False),
        Column("min", "DOUBLE", "smallest value", nullable=False),
        Column(
            "mean",
            "DOUBLE",
            "mean of the values, summed exactly so that it does not depend on their order",
            nullable=False,
        ),
        Column("max", "DOUBLE", "largest value", nullable=False),
        Column("first", "DOUBLE", "earliest value", nullable=False),
        Column("last", "DOUBLE", "latest value", nullable=False),
    ),
    key=("patient_id", "code", "minute"),
    cluster_by=("patient_id", "minute"),
    constraints=(
        Constraint("empty_minute", "$count > 0", "a minute without values has no row"),
        Constraint("unordered_statistics", "$min <= $mean AND $mean <= $max", "min <= mean <= max"),
        Constraint("not_a_minute", "$minute = date_trunc('MINUTE', $minute)", "minute is the start of a minute"),
    ),
)

SCORE_INPUT = Table(
    layer="gold",
    name="score_input",
    grain="one input of a score of one patient in one minute: its last value, without those entered in error",
    columns=(
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("input", "STRING", "input of a score, such as heart_rate or on_oxygen", nullable=False),
        Column("minute", "TIMESTAMP", "start of the minute in which the value was observed", nullable=False),
        Column("observed_at", "TIMESTAMP", "when the device measured", nullable=False),
        Column("stale_at", "TIMESTAMP", "until when the value counts, where no other replaces it", nullable=False),
        Column("value", "DOUBLE", "in the vocabulary's unit; 1 or 0 for what is true or false; NULL for a code"),
        Column("value_code", "STRING", "a coded value"),
        Column("observation_id", "BINARY", "the observation that it is", nullable=False),
    ),
    key=("patient_id", "input", "minute"),
    cluster_by=("minute", "stale_at"),
    constraints=(
        Constraint("unknown_input", f"$input IN ({_texts(tuple(STALE_AFTER))})", "no score has this input"),
        Constraint("no_value", "($value IS NULL) <> ($value_code IS NULL)", "either a number or a code"),
        Constraint("not_of_the_minute", "$minute = date_trunc('MINUTE', $observed_at)", "observed in its minute"),
        Constraint("stale_at_once", "$stale_at > $observed_at", "a value counts for some time"),
    ),
)

EARLY_WARNING_SCORE = Table(
    layer="gold",
    name="early_warning_score",
    grain="one patient, score and instant at which it says something new; it stands until the next",
    columns=(
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("score", "STRING", "news2, qsofa or sirs", nullable=False),
        Column("observed_at", "TIMESTAMP", "instant of the newest input that made it", nullable=False),
        Column("total", "INT", "the score; NULL where a missing or stale input could change it"),
        Column("total_min", "INT", "the least that it can be", nullable=False),
        Column("total_max", "INT", "the most that it can be", nullable=False),
        Column("risk", "STRING", "news2: low, low-medium, medium, high; others: negative, positive; NULL where open"),
        Column(
            "parts",
            f"STRUCT<{', '.join(f'{name}: INT' for name in PARTS)}>",
            "points by part; NULL where they are not known, and for parts of other scores",
        ),
        Column(
            "inputs",
            "ARRAY<STRUCT<input: STRING, value: DOUBLE, value_code: STRING, observed_at: TIMESTAMP,"
            " observation_id: BINARY>>",
            "what it was made of: each input with its value and the observation that gave it",
        ),
    ),
    key=("patient_id", "score", "observed_at"),
    cluster_by=("observed_at",),
    constraints=(
        Constraint("unknown_score", f"$score IN ({_texts(tuple(SCORES))})", "no such score"),
        Constraint("unordered_totals", "$total_min >= 0 AND $total_min <= $total_max", "0 <= min <= max"),
        Constraint(
            "unfounded_total",
            "($total IS NULL) = ($total_min < $total_max) AND coalesce($total = $total_min, true)",
            "there is a total where the least is the most, and nowhere else",
        ),
        Constraint("unknown_risk", f"coalesce($risk IN ({_texts(RISKS)}), true)", "not a risk of any score"),
    ),
)

RHYTHM_MINUTE = Table(
    layer="gold",
    name="rhythm_minute",
    grain="one patient, device, lead and minute with a signal: beats, intervals between good ones, and their quality",
    columns=(
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("device_id", "STRING", "the device that measured", nullable=False),
        Column("lead", "STRING", "code of ISO/IEEE 11073-10101 (MDC)", nullable=False),
        Column("minute", "TIMESTAMP", "start of the minute", nullable=False),
        Column("beats", "INT", "all that were found", nullable=False),
        Column("good_beats", "INT", "those in a stretch of good quality", nullable=False),
        Column("premature", "INT", "of the good ones, those that came too early", nullable=False),
        Column("intervals", "INT", "between two good beats, of the minute in which they end", nullable=False),
        Column("mean_rr", "DOUBLE", "mean interval in ms; NULL without an interval"),
        Column("min_rr", "DOUBLE", "least interval in ms"),
        Column("max_rr", "DOUBLE", "greatest interval in ms"),
        Column("sdnn", "DOUBLE", "standard deviation of normal intervals in ms"),
        Column("rmssd", "DOUBLE", "root mean square of differences of successive normal intervals in ms"),
        Column("pnn50", "DOUBLE", "share of those differences that is over 50 ms, 0 to 1"),
        Column("irregularity", "DOUBLE", "root mean square of differences of all intervals by their mean"),
        Column("good_share", "DOUBLE", "share of the minute whose beats are to be believed, 0 to 1", nullable=False),
        Column("noise_share", "DOUBLE", "share in noise", nullable=False),
        Column("flat_share", "DOUBLE", "share without a signal worth the name; asystole too", nullable=False),
        Column("saturated_share", "DOUBLE", "share at an end of the converter", nullable=False),
        Column("lead_off_share", "DOUBLE", "share without values; the rest of the minute has no chunk", nullable=False),
    ),
    key=("patient_id", "device_id", "lead", "minute"),
    cluster_by=("patient_id", "minute"),
    constraints=(
        Constraint("not_a_minute", "$minute = date_trunc('MINUTE', $minute)", "minute is the start of a minute"),
        Constraint(
            "unordered_counts",
            "$premature >= 0 AND $premature <= $good_beats AND $good_beats <= $beats",
            "premature <= good beats <= beats",
        ),
        Constraint(
            "unordered_intervals",
            # A mean of equal numbers may differ from them by the last bit.
            "coalesce($min_rr <= $mean_rr + 0.001D AND $mean_rr <= $max_rr + 0.001D, $intervals = 0)",
            "min <= mean <= max wherever there is an interval",
        ),
        Constraint(
            "more_than_a_minute",
            "least($good_share, $noise_share, $flat_share, $saturated_share, $lead_off_share) >= 0"
            " AND $good_share + $noise_share + $flat_share + $saturated_share + $lead_off_share <= 1.001D",
            "shares are of one minute",
        ),
    ),
)

READINGS = "ARRAY<STRUCT<code: STRING, value: DOUBLE, value_code: STRING, observed_at: TIMESTAMP, message_id: STRING>>"
"""The readings that an alert rests on."""

RISK_SCORE = Table(
    layer="gold",
    name="risk_score",
    grain="one patient, instant and version of a model: the risk that it gave; it is never written again",
    columns=(
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("landmark_at", "TIMESTAMP", "of what instant it tells: values observed before it count", nullable=False),
        Column("model", "STRING", "what is predicted, such as death-within-24-hours", nullable=False),
        Column("model_version", "INT", "in the registry of models", nullable=False),
        Column("role", "STRING", "in_service, or shadow: tried beside it and shown to nobody", nullable=False),
        Column("risk", "DOUBLE", "0 to 1", nullable=False),
        Column(
            "contributions",
            "ARRAY<STRUCT<feature: STRING, value: DOUBLE, log_odds: DOUBLE>>",
            "what the risk rests on, the largest first: what knowing a feature adds to the log odds",
            nullable=False,
        ),
        Column("scored_at", "TIMESTAMP", "when it was worked out, by this stack's clock", nullable=False),
    ),
    key=("patient_id", "landmark_at", "model", "model_version"),
    constraints=(
        Constraint("no_risk", "$risk >= 0 AND $risk <= 1", "a risk is from 0 to 1"),
        Constraint("unknown_role", "$role IN ('in_service', 'shadow')", "in service or in its shadow"),
    ),
)

ALERT_EVENT = Table(
    layer="gold",
    name="alert_event",
    grain="one transition of one alert",
    columns=(
        Column(
            "alert_id",
            "STRING",
            "32 hexadecimal digits: hash of patient, rule and the message that opened it",
            nullable=False,
        ),
        Column("sequence", "INT", "0 for the first transition of the alert, then 1, 2, ...", nullable=False),
        Column("state", "STRING", "the state after the transition", nullable=False),
        Column("reason", "STRING", "why the alert changed"),
        Column("rule_id", "STRING", "rule of the pack", nullable=False),
        Column("title", "STRING", "the rule in words", nullable=False),
        Column("kind", "STRING", "kind of the rule: limit, rate, score, combination, silence, ..."),
        Column("pack", "STRING", "rule pack, name@version", nullable=False),
        Column("priority", "STRING", "high, medium or low (IEC 60601-1-8)", nullable=False),
        Column("category", "STRING", "physiological or technical (IEC 60601-1-8)", nullable=False),
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("location_unit", "STRING", "care unit"),
        Column("location_bed", "STRING", "bed"),
        Column("device_id", "STRING", "the device that measured"),
        Column("code", "STRING", "LOINC of the signal"),
        Column("value", "DOUBLE", "the value that caused the transition"),
        Column("limit_value", "DOUBLE", "the limit it was held against"),
        Column(
            "readings",
            READINGS,
            "of the first transition: what it rests on",
        ),
        Column("observed_at", "TIMESTAMP", "instant of what caused the transition, by the rule's clock"),
        Column("message_id", "STRING", "the message that caused the transition; NULL for a command or the clock"),
        Column("message_received_at", "TIMESTAMP", "when the broker had that message"),
        Column("escalation_step", "INT", "how often it was escalated"),
        Column("muted_by", "STRING", "the silence, or the rule, that keeps it silenced"),
        Column("actor", "STRING", "who acknowledged it"),
        Column("note", "STRING", "what they said"),
        Column(
            "emitted_at",
            "TIMESTAMP",
            "when the broker had the event: minus the line above, the alert latency",
            nullable=False,
        ),
    ),
    key=("alert_id", "sequence"),
    cluster_by=("emitted_at",),
    constraints=(
        Constraint("negative_sequence", "$sequence >= 0", "transitions count from 0"),
        Constraint("unknown_priority", "$priority IN ('high', 'medium', 'low')", "not an IEC 60601-1-8 priority"),
        Constraint("unknown_category", "$category IN ('physiological', 'technical')", "not an IEC 60601-1-8 category"),
    ),
)

ALERT = Table(
    layer="gold",
    name="alert",
    grain="one alert as it stands: what its transitions add up to",
    columns=(
        Column("alert_id", "STRING", "as in gold.alert_event", nullable=False),
        Column("rule_id", "STRING", "rule of the pack", nullable=False),
        Column("title", "STRING", "the rule in words", nullable=False),
        Column("kind", "STRING", "kind of the rule"),
        Column("pack", "STRING", "rule pack, name@version", nullable=False),
        Column("priority", "STRING", "high, medium or low (IEC 60601-1-8)", nullable=False),
        Column("category", "STRING", "physiological or technical (IEC 60601-1-8)", nullable=False),
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("location_unit", "STRING", "care unit, as last told"),
        Column("location_bed", "STRING", "bed, as last told"),
        Column("code", "STRING", "LOINC of the signal"),
        Column("state", "STRING", "the state after the last transition", nullable=False),
        Column("reason", "STRING", "the reason of the last transition"),
        Column("sequence", "INT", "the last transition's", nullable=False),
        Column("value", "DOUBLE", "the value that opened it"),
        Column("limit_value", "DOUBLE", "the limit that it was held against"),
        Column("opened_at", "TIMESTAMP", "instant of what opened it, by the rule's clock"),
        Column("active_at", "TIMESTAMP", "when it first told, by the broker; NULL for one that never became active"),
        Column("acknowledged_at", "TIMESTAMP", "when somebody first took it on, by the broker"),
        Column("acknowledged_by", "STRING", "who did"),
        Column("escalations", "INT", "how often the next step was told", nullable=False),
        Column("ended_at", "TIMESTAMP", "when it was resolved or superseded, by the broker; NULL while it is open"),
        Column("changed_at", "TIMESTAMP", "when the broker had the last transition", nullable=False),
    ),
    key=("alert_id",),
    cluster_by=("changed_at",),
    constraints=(
        Constraint(
            "ended_without_end",
            "($ended_at IS NOT NULL) = ($state IN ('resolved', 'superseded'))",
            "an alert has an end when, and only when, it is resolved or superseded",
        ),
    ),
)

ALERT_NOTIFICATION = Table(
    layer="gold",
    name="alert_notification",
    grain="one decision to tell somebody of a patient's alerts",
    columns=(
        Column("notification_id", "STRING", "names the decision", nullable=False),
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column("reason", "STRING", "why it was told: raised, escalated, grouped, ...", nullable=False),
        Column("step", "INT", "step of the escalation, from 0", nullable=False),
        Column("priority", "STRING", "high, medium or low (IEC 60601-1-8)", nullable=False),
        Column("channels", "ARRAY<STRING>", "the channels it was for", nullable=False),
        Column("pack", "STRING", "rule pack, name@version", nullable=False),
        Column("alert_ids", "ARRAY<STRING>", "the alerts it tells, as in gold.alert_event", nullable=False),
        Column("sequences", "ARRAY<INT>", "the transition of each of them that it tells", nullable=False),
        Column("location_unit", "STRING", "care unit"),
        Column("location_bed", "STRING", "bed"),
        Column("message_received_at", "TIMESTAMP", "when the broker had the message behind it"),
        Column("decided_at", "TIMESTAMP", "when it was decided", nullable=False),
        Column("emitted_at", "TIMESTAMP", "when the broker had the decision", nullable=False),
    ),
    key=("notification_id",),
    cluster_by=("emitted_at",),
    constraints=(
        Constraint("negative_step", "$step >= 0", "steps count from 0"),
        Constraint("unknown_priority", "$priority IN ('high', 'medium', 'low')", "not an IEC 60601-1-8 priority"),
    ),
)

DELIVERY_STATUSES = ("delivered", "undeliverable", "digested", "unconfigured")
"""How a notification may end on a channel."""

ALERT_DELIVERY = Table(
    layer="gold",
    name="alert_delivery",
    grain="one notification on one channel: how that ended",
    columns=(
        Column("notification_id", "STRING", "the decision, as in gold.alert_notification", nullable=False),
        Column("channel", "STRING", "the channel", nullable=False),
        Column("patient_id", "STRING", "system/value", nullable=False),
        Column(
            "status", "STRING", "delivered, digested (told in a digest), undeliverable, unconfigured", nullable=False
        ),
        Column("attempts", "INT", "how often it was tried", nullable=False),
        Column("error", "STRING", "what was answered last, without secrets"),
        Column("digest_id", "STRING", "the digest it was told in"),
        Column("alert_ids", "ARRAY<STRING>", "the alerts it tells", nullable=False),
        Column("ended_at", "TIMESTAMP", "when that was known", nullable=False),
        Column("emitted_at", "TIMESTAMP", "when the broker had the record", nullable=False),
    ),
    key=("notification_id", "channel"),
    cluster_by=("emitted_at",),
    constraints=(
        Constraint("negative_attempts", "$attempts >= 0", "attempts are counted"),
        Constraint("unknown_status", f"$status IN ({_texts(DELIVERY_STATUSES)})", "not a way in which a delivery ends"),
    ),
)

AUDIT_OUTCOMES = ("done", "refused", "failed")
"""How what was asked for may end; ``failed`` is neither done nor forbidden, such as a patient whom nobody knows."""

AUDIT_EVENT = Table(
    layer="gold",
    name="audit_event",
    grain="one thing that somebody asked for: a read of patients, an order, or a refusal",
    columns=(
        Column("event_id", "STRING", "names the record", nullable=False),
        Column("asked_at", "TIMESTAMP", "when it was asked for, by the clock of the application", nullable=False),
        Column("application", "STRING", "what it was asked of: gateway, dashboard, ward", nullable=False),
        Column("actor_kind", "STRING", "how who asked is known: key, user, link, local, nobody", nullable=False),
        Column("actor", "STRING", "name of the key or user", nullable=False),
        Column("action", "STRING", "what was asked for", nullable=False),
        Column("outcome", "STRING", "done, refused, failed", nullable=False),
        Column("patient_id", "STRING", "the patient it was about, system/value; NULL for a list"),
        Column("location_unit", "STRING", "the care unit that was asked for"),
        Column("detail", "STRING", "why it was refused"),
        Column("emitted_at", "TIMESTAMP", "when the broker had the record", nullable=False),
    ),
    key=("event_id",),
    cluster_by=("emitted_at",),
    constraints=(
        Constraint("unknown_outcome", f"$outcome IN ({_texts(AUDIT_OUTCOMES)})", "not a way in which it may end"),
    ),
)

VALIDATION_RESULT = Table(
    layer="quality",
    name="validation_result",
    grain="one expectation in one validation run",
    columns=(
        Column("run_id", "STRING", "one run of all suites", nullable=False),
        Column("table_name", "STRING", "layer.name of the table that was checked", nullable=False),
        Column("table_version", "BIGINT", "Delta version that was checked", nullable=False),
        Column("expectation", "STRING", "the rule: a constraint, the key, or a hand-written rule", nullable=False),
        Column("success", "BOOLEAN", "whether it held", nullable=False),
        Column("unexpected_count", "BIGINT", "rows that break it"),
        Column("checked_at", "TIMESTAMP", "when it was checked", nullable=False),
        Column(
            "detail", "STRING", "what was found, of a rule that compares; 'no verdict: ...' where too little was there"
        ),
    ),
    key=("run_id", "table_name", "expectation"),
)

BACKFILL_STATUSES = ("started", "landed", "failed", "stopped")
"""What may be said of a run of ``ward backfill``."""

BACKFILL_RUN = Table(
    layer="operation",
    name="backfill_run",
    grain="one run of ward backfill and what is said of it: that it started, and how it ended",
    columns=(
        Column("run_id", "STRING", "the run", nullable=False),
        Column("status", "STRING", "started; then landed, failed or stopped", nullable=False),
        Column("recorded_at", "TIMESTAMP", "when that was so", nullable=False),
        Column("source", "STRING", "the layout that was read", nullable=False),
        Column("path", "STRING", "file or folder as it was given", nullable=False),
        Column("topics", "ARRAY<STRING>", "the files as bronze names them: file:SOURCE/NAME@SHA"),
        Column("since", "TIMESTAMP", "values from here on were wanted; NULL for all"),
        Column("until", "TIMESTAMP", "values before this were wanted; NULL for all"),
        Column("subjects", "ARRAY<STRING>", "subjects that were wanted; NULL for all"),
        Column("reason", "STRING", "why, as whoever ran it says"),
        Column("code_version", "STRING", "version of ward", nullable=False),
        Column("rows_read", "BIGINT", "rows of the files"),
        Column("written", "BIGINT", "rows that bronze did not have"),
        Column("already_there", "BIGINT", "rows that bronze had"),
        Column("counts", "STRING", "what became of every row that was read, as JSON"),
        Column("error", "STRING", "why it failed"),
    ),
    key=("run_id", "status"),
    constraints=(
        Constraint("unknown_status", f"$status IN ({_texts(BACKFILL_STATUSES)})", "not a state of a backfill"),
    ),
)

TABLE_MAINTENANCE = Table(
    layer="operation",
    name="table_maintenance",
    grain="one table in one run of ward maintain",
    columns=(
        Column("run_id", "STRING", "the run", nullable=False),
        Column("table_name", "STRING", "layer.name of the table", nullable=False),
        Column("maintained_at", "TIMESTAMP", "when the run began", nullable=False),
        Column("expired_rows", "BIGINT", "rows that were older than the table keeps them", nullable=False),
        Column("files_before", "BIGINT", "data files of the newest version before", nullable=False),
        Column("files", "BIGINT", "data files of the newest version after", nullable=False),
        Column("bytes", "BIGINT", "their size", nullable=False),
        Column("vacuumed_files", "BIGINT", "files taken away that no kept version needs", nullable=False),
        Column("code_version", "STRING", "version of ward", nullable=False),
    ),
    key=("run_id", "table_name"),
)

FIX_ACTIONS = ("fix", "replay")
"""What ``ward quarantine`` may do with a quarantined value."""

QUARANTINE_FIX = Table(
    layer="operation",
    name="quarantine_fix",
    grain="one quarantined value that ward quarantine sent again, mended or as it was",
    columns=(
        Column("message_id", "STRING", "the message it was sent again by, as in silver.observation", nullable=False),
        Column("run_id", "STRING", "the run of ward quarantine", nullable=False),
        Column("action", "STRING", "fix: something was changed; replay: nothing was", nullable=False),
        Column("recorded_at", "TIMESTAMP", "when that was decided, right before it was sent", nullable=False),
        Column("actor", "STRING", "who decided it", nullable=False),
        Column("reason", "STRING", "why, as they say", nullable=False),
        Column("changes", "STRING", "what they asked to change, as JSON; {} for a replay", nullable=False),
        Column("before", "STRING", "the observation as it was sent first, as JSON", nullable=False),
        Column("after", "STRING", "the observation as it was sent again, as JSON", nullable=False),
        Column("observation_id", "BINARY", "the quarantined observation", nullable=False),
        Column("version", "BINARY", "the version of it that was mended", nullable=False),
        Column("failed_constraints", "ARRAY<STRING>", "what that version broke", nullable=False),
        *COORDINATES,
        Column("sent_topic", "STRING", "topic in bronze of the message: file:quarantine/RUN@SHA", nullable=False),
        Column("sent_offset", "BIGINT", "its offset there", nullable=False),
        Column("code_version", "STRING", "version of ward", nullable=False),
    ),
    key=("message_id",),
    constraints=(Constraint("unknown_action", f"$action IN ({_texts(FIX_ACTIONS)})", "neither a fix nor a replay"),),
)

TABLES = (
    DEVICE_MESSAGE,
    OBSERVATION,
    OBSERVATION_QUARANTINE,
    DEAD_LETTER,
    PATIENT,
    ENCOUNTER,
    CLINICAL_RESOURCE,
    WAVEFORM_MESSAGE,
    WAVEFORM_CHUNK,
    WAVEFORM_DEAD_LETTER,
    VITAL_SIGN_MINUTE,
    SCORE_INPUT,
    EARLY_WARNING_SCORE,
    RISK_SCORE,
    RHYTHM_MINUTE,
    ALERT_EVENT,
    ALERT,
    ALERT_NOTIFICATION,
    ALERT_DELIVERY,
    AUDIT_EVENT,
    VALIDATION_RESULT,
    BACKFILL_RUN,
    TABLE_MAINTENANCE,
    QUARANTINE_FIX,
)
