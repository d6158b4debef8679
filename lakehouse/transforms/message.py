"""Kafka records to parsed messages, or to the reason why a record cannot be one.

Used by the alert flow and by silver alike, so only SQL functions that real-time mode and micro-batches both run.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_MESSAGE_BYTES = 256 * 1024
"""The largest record that is parsed. 256 signals, the contract's most, with every optional field take about 100 KiB."""

OBSERVATIONS = (
    "ARRAY<STRUCT<code: STRING, value: DOUBLE, value_code: STRING, unit: STRING, source_code: STRING,"
    " source_unit: STRING, record_id: STRING>>"
)
MESSAGE = (
    "schema_version INT, message_id STRING, patient_id STRING, encounter_id STRING, device_id STRING, source STRING,"
    " location STRUCT<unit: STRING, bed: STRING>, observed_at STRING, recorded_at STRING, status STRING,"
    f" device_status STRUCT<battery: DOUBLE, lead_off: BOOLEAN>, observations {OBSERVATIONS}, _corrupt STRING"
)
"""The contract as a from_json schema. ``_corrupt`` takes the text of what does not fit it."""

REQUIRED = (
    "schema_version",
    "message_id",
    "patient_id",
    "device_id",
    "source",
    "observed_at",
    "status",
    "observations",
)

DEAD_LETTER_REASONS = {
    "tombstone": "the record has no value",
    "empty": "the value has no bytes",
    "oversized": f"the value is larger than {MAX_MESSAGE_BYTES} bytes",
    "not_utf8": "the bytes are not UTF-8",
    "malformed_json": "the text is not JSON",
    "wrong_type": "the text is JSON, but a field has another type than the contract's",
    "missing_field": "a required field is missing or empty",
    "unknown_schema_version": "the schema version is not one this release reads",
    "bad_timestamp": "an instant is not RFC 3339 with an offset",
    "invalid_patient_id": "the patient id is not of the form system/value",
}
"""Every reason a record can become a dead letter, in the order in which they are looked for."""


def _instant(column: str) -> str:
    """RFC 3339 text to a timestamp; NULL without an offset, since Spark would take the session's zone for it."""
    offset = f"({column} LIKE '%Z' OR substring({column}, -6, 1) IN ('+', '-'))"
    return f"CASE WHEN length({column}) >= 20 AND {offset} THEN try_cast({column} AS TIMESTAMP) END"


def _missing() -> str:
    fields = [f"CASE WHEN message.{name} IS NULL THEN '{name}' END" for name in REQUIRED]
    empty = "CASE WHEN size(message.observations) = 0 THEN 'observations' END"
    return f"array_join(array_compact(array({', '.join([*fields, empty])})), ', ')"


_REASON = """CASE
  WHEN value IS NULL THEN 'tombstone'
  WHEN length(value) = 0 THEN 'empty'
  WHEN message IS NULL AND length(value) > {limit} THEN 'oversized'
  WHEN NOT is_valid_utf8(CAST(value AS STRING)) THEN 'not_utf8'
  WHEN message._corrupt IS NOT NULL AND try_parse_json(CAST(value AS STRING)) IS NULL THEN 'malformed_json'
  WHEN message IS NULL OR message._corrupt IS NOT NULL THEN 'wrong_type'
  WHEN missing <> '' THEN 'missing_field'
  WHEN message.schema_version <> 1 THEN 'unknown_schema_version'
  WHEN observed_instant IS NULL OR (message.recorded_at IS NOT NULL AND recorded_instant IS NULL) THEN 'bad_timestamp'
  WHEN instr(message.patient_id, '/') <= 1 OR message.patient_id LIKE '%/' THEN 'invalid_patient_id'
END"""


def parse(records: "DataFrame") -> "DataFrame":
    """Records (topic, partition, offset, received_at, value) with ``message`` beside them, or why there is none.

    Adds ``message`` (the contract's fields), ``observed_instant`` and ``recorded_instant`` (timestamps),
    ``dead_letter_reason`` (NULL for a parsed record) and ``dead_letter_detail``.
    """
    from pyspark.sql import functions as F  # noqa: N812 (the field's own name for it)

    text = F.when(F.length("value") <= MAX_MESSAGE_BYTES, F.col("value").cast("string"))
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": "_corrupt"}
    return (
        records.withColumn("message", F.from_json(text, MESSAGE, options))
        .withColumn("observed_instant", F.expr(_instant("message.observed_at")))
        .withColumn("recorded_instant", F.expr(_instant("message.recorded_at")))
        .withColumn("missing", F.expr(_missing()))
        .withColumn("dead_letter_reason", F.expr(_REASON.format(limit=MAX_MESSAGE_BYTES)))
        .withColumn("dead_letter_detail", F.expr(_detail()))
        .drop("missing")
    )


def _detail() -> str:
    return """CASE dead_letter_reason
  WHEN 'oversized' THEN concat(length(value), ' bytes')
  WHEN 'malformed_json' THEN left(CAST(value AS STRING), 120)
  WHEN 'wrong_type' THEN left(CAST(value AS STRING), 120)
  WHEN 'missing_field' THEN missing
  WHEN 'unknown_schema_version' THEN CAST(message.schema_version AS STRING)
  WHEN 'bad_timestamp' THEN concat_ws(', ', message.observed_at, message.recorded_at)
  WHEN 'invalid_patient_id' THEN message.patient_id
END"""


def dead_letters(parsed: "DataFrame") -> "DataFrame":
    """The parsed records that are none, shaped as silver.dead_letter."""
    return parsed.where("dead_letter_reason IS NOT NULL").selectExpr(
        "topic",
        "partition",
        "offset",
        "received_at",
        "dead_letter_reason AS reason",
        "dead_letter_detail AS detail",
    )
