"""Kafka records to parsed messages, or to the reason why a record cannot be one.

Used by the alert flow and by silver alike, so only SQL functions that real-time mode and micro-batches both run.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_MESSAGE_BYTES = 256 * 1024
"""The largest record that is parsed. 256 signals, the contract's most, with every optional field take about 100 KiB."""

MAX_OBSERVATIONS = 256
"""The contract's most. Comparing each with each is quadratic: a message of many more would hold up the stream."""

OBSERVATIONS = (
    "ARRAY<STRUCT<code: STRING, value: DOUBLE, value_code: STRING, unit: STRING, source_code: STRING,"
    " source_unit: STRING, record_id: STRING>>"
)
MESSAGE = (
    "schema_version INT, message_id STRING, patient_id STRING, encounter_id STRING, device_id STRING, source STRING,"
    " location STRUCT<unit: STRING, bed: STRING>, observed_at STRING, recorded_at STRING, status STRING,"
    f" device_status STRUCT<battery: DOUBLE, lead_off: BOOLEAN>, observations {OBSERVATIONS}"
)
"""The contract as a from_json schema. A number where it says STRING is taken as its text."""

_WRAPPED = f"held ARRAY<STRUCT<{MESSAGE}>>, whole BOOLEAN, _corrupt STRING"
"""What is parsed is the text inside this: from_json stops at the end of the first value and forgets what follows it."""

REQUIRED_TEXTS = ("message_id", "patient_id", "device_id", "source", "observed_at", "status")

DEAD_LETTER_REASONS = {
    "tombstone": "the record has no value",
    "empty": "the value has no bytes",
    "oversized": f"the value is larger than {MAX_MESSAGE_BYTES} bytes",
    "not_utf8": "the bytes are not UTF-8",
    "malformed_json": "the text is not JSON, or more than one JSON value",
    "wrong_type": "the text is JSON, but a field has another type than the contract's",
    "unknown_schema_version": "the schema version is not one this release reads",
    "missing_field": "a required field is missing or empty",
    "too_many_observations": f"there are more than {MAX_OBSERVATIONS} observations",
    "bad_timestamp": "an instant is not RFC 3339 with an offset, or not of the years 1900 to 2999",
    "invalid_patient_id": "the patient id is not of the form system/value",
}
"""Every reason a record can become a dead letter, in the order in which they are looked for."""

RFC_3339 = (
    # Other years are no observation's, and beyond 0001 to 9999 no reader in Python could take them.
    "^(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$"
)


def _instant(column: str) -> str:
    """RFC 3339 text to a timestamp. Spark alone takes more: no date, no offset, years of six digits."""
    return f"CASE WHEN {column} RLIKE '{RFC_3339}' THEN try_cast({column} AS TIMESTAMP) END"


def _missing() -> str:
    fields = [f"CASE WHEN coalesce(message.{name}, '') = '' THEN '{name}' END" for name in REQUIRED_TEXTS]
    version = "CASE WHEN message.schema_version IS NULL THEN 'schema_version' END"
    observations = "CASE WHEN coalesce(size(message.observations), 0) <= 0 THEN 'observations' END"
    return f"array_join(array_compact(array({', '.join([version, *fields, observations])})), ', ')"


def _nested() -> str:
    """Whether JSON stands where a text belongs: from_json gives the text of an object or an array for a STRING.

    A text may begin with a brace, so the few that do are looked at as they were sent.
    """
    texts = ("message_id", "patient_id", "encounter_id", "device_id", "source", "location.unit", "location.bed")
    arms = (
        f"(ascii(message.{name}) IN ({ord('{')}, {ord('[')})"
        f" AND schema_of_variant(variant_get(try_parse_json(text), '$.held[0].{name}', 'variant')) <> 'STRING')"
        for name in texts
    )
    return f"coalesce({' OR '.join(arms)}, false)"


_REASON = f"""CASE
  WHEN value IS NULL THEN 'tombstone'
  WHEN length(value) = 0 THEN 'empty'
  WHEN length(value) > {MAX_MESSAGE_BYTES} THEN 'oversized'
  WHEN NOT is_valid_utf8(CAST(value AS STRING)) THEN 'not_utf8'
  WHEN parsed._corrupt IS NOT NULL AND try_parse_json(text) IS NULL THEN 'malformed_json'
  WHEN parsed._corrupt IS NULL AND (parsed.whole IS NULL OR size(parsed.held) <> 1) THEN 'malformed_json'
  WHEN parsed._corrupt IS NOT NULL OR message IS NULL OR {_nested()} THEN 'wrong_type'
  WHEN message.schema_version <> 1 THEN 'unknown_schema_version'
  WHEN missing <> '' THEN 'missing_field'
  WHEN size(message.observations) > {MAX_OBSERVATIONS} THEN 'too_many_observations'
  WHEN observed_instant IS NULL OR (message.recorded_at IS NOT NULL AND recorded_instant IS NULL) THEN 'bad_timestamp'
  WHEN instr(message.patient_id, '/') IN (0, 1, length(message.patient_id)) THEN 'invalid_patient_id'
END"""


def parse(records: "DataFrame") -> "DataFrame":
    """Records (topic, partition, offset, received_at, value) with ``message`` beside them, or why there is none.

    Adds ``message`` (the contract's fields), ``observed_instant`` and ``recorded_instant`` (timestamps),
    ``dead_letter_reason`` (NULL for a parsed record) and ``dead_letter_detail``.
    """
    from pyspark.sql import functions as F  # noqa: N812 (the field's own name for it)

    wrapped = F.concat(F.lit('{"held":['), F.col("value").cast("string"), F.lit('],"whole":true}'))
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": "_corrupt", "allowSingleQuotes": "false"}
    return (
        records.withColumn("text", F.when(F.length("value") <= MAX_MESSAGE_BYTES, wrapped))
        .withColumn("parsed", F.from_json("text", _WRAPPED, options))
        .withColumn("message", F.expr("get(parsed.held, 0)"))
        .withColumn("observed_instant", F.expr(_instant("message.observed_at")))
        .withColumn("recorded_instant", F.expr(_instant("message.recorded_at")))
        .withColumn("missing", F.expr(_missing()))
        .withColumn("dead_letter_reason", F.expr(_REASON))
        .withColumn("dead_letter_detail", F.expr(_detail()))
        .drop("missing", "parsed", "text")
    )


def _detail() -> str:
    return """CASE dead_letter_reason
  WHEN 'oversized' THEN concat(length(value), ' bytes')
  WHEN 'malformed_json' THEN left(CAST(value AS STRING), 120)
  WHEN 'wrong_type' THEN left(CAST(value AS STRING), 120)
  WHEN 'unknown_schema_version' THEN CAST(message.schema_version AS STRING)
  WHEN 'missing_field' THEN missing
  WHEN 'too_many_observations' THEN CAST(size(message.observations) AS STRING)
  WHEN 'bad_timestamp' THEN concat_ws(', ', message.observed_at, message.recorded_at)
  WHEN 'invalid_patient_id' THEN message.patient_id
END"""
