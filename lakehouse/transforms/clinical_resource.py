"""Records that carry a FHIR R4 resource: patients, encounters, and what stands beside them.

Grain: one version of one resource. Missing data: what a resource does not say is NULL; a date of which only the year
or month is known gives no day. The resource itself is kept whole beside the columns.

A resource names others by ids alone (``Patient/7``): they are of the system of the record's ``patient_id``.
"""

from typing import TYPE_CHECKING

from lakehouse.table import Table
from lakehouse.tables import CLINICAL_RESOURCE, ENCOUNTER, PATIENT
from lakehouse.topics import RESOURCE_FILES
from lakehouse.transforms.message import RFC_3339

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_RESOURCE_BYTES = 1024 * 1024
"""The largest record that is parsed: a discharge letter inside a DocumentReference takes some 100 KiB."""

TABLES = (PATIENT, ENCOUNTER, CLINICAL_RESOURCE)
"""Where resources land."""

_SEPARATOR = "\\u001f"


def of_resources(topic: str, column: str = "topic") -> str:
    """SQL that holds for records that carry resources: of the topic of this name, or of a file of resources."""
    return f"({column} = '{topic}' OR {column} LIKE 'file:%/{RESOURCE_FILES}/%')"


def _text(path: str) -> str:
    return f"try_variant_get(record, '$.{path}', 'string')"


def _of_resource(path: str) -> str:
    return _text(f"resource.{path}")


def _referenced(path: str) -> str:
    """The id that a reference names, with the patient's system: ``Patient/7`` and ``https://.../Patient/7`` alike."""
    return f"concat(system, '/', substring_index({_of_resource(path + '.reference')}, '/', -1))"


def _instant(text: str) -> str:
    """A FHIR dateTime as a timestamp; a day begins at midnight UTC. NULL for a month or year, and for no date."""
    return f"CASE WHEN {text} RLIKE '{RFC_3339}' OR {text} RLIKE '{_DAY}' THEN try_cast({text} AS TIMESTAMP) END"


def _day(text: str) -> str:
    return f"CASE WHEN left({text}, 10) RLIKE '{_DAY}' THEN try_cast(left({text}, 10) AS DATE) END"


def _unreadable(text: str, read: str) -> str:
    """A date that is there and is none: neither read nor a year or month."""
    return f"({text} IS NOT NULL AND {read} IS NULL AND NOT {text} RLIKE '{_PARTIAL}')"


_DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_PARTIAL = "^[0-9]{4}(-(0[1-9]|1[0-2]))?$"

_DATES = {
    "birthDate": _day,
    "deceasedDateTime": _day,
    "period.start": _instant,
    "period.end": _instant,
}
"""Dates that become columns, and how each is read."""

_REQUIRED = ("schema_version", "patient_id", "source", "resource.resourceType", "resource.id")
_MISSING = ", ".join(f"CASE WHEN coalesce({_text(path)}, '') = '' THEN '{path}' END" for path in _REQUIRED)
_BAD_DATES = ", ".join(
    f"CASE WHEN {_unreadable(_of_resource(path), read(_of_resource(path)))} THEN '{path}' END"
    for path, read in _DATES.items()
)
_RECORDED = _text("recorded_at")
_SUBJECT = f"""CASE resource_type
  WHEN 'Patient' THEN concat(system, '/', {_of_resource("id")})
  ELSE coalesce({_referenced("subject")}, {_referenced("patient")}, patient_id)
END"""

_REASON = f"""CASE
  WHEN value IS NULL THEN 'tombstone'
  WHEN length(value) = 0 THEN 'empty'
  WHEN length(value) > {MAX_RESOURCE_BYTES} THEN 'oversized'
  WHEN NOT is_valid_utf8(CAST(value AS STRING)) THEN 'not_utf8'
  WHEN record IS NULL THEN 'malformed_json'
  WHEN missing <> '' THEN 'missing_field'
  WHEN {_text("schema_version")} <> '1' THEN 'unknown_schema_version'
  WHEN instr(patient_id, '/') IN (0, 1, length(patient_id)) THEN 'invalid_patient_id'
  WHEN {_RECORDED} IS NOT NULL AND recorded_instant IS NULL THEN 'bad_timestamp'
  WHEN bad_dates <> '' THEN 'bad_timestamp'
  WHEN {_SUBJECT} <> patient_id THEN 'other_patient'
  WHEN resource_type = 'Encounter' AND {_of_resource("status")} IS NULL THEN 'missing_field'
END"""

_DETAIL = f"""CASE dead_letter_reason
  WHEN 'oversized' THEN concat(length(value), ' bytes')
  WHEN 'malformed_json' THEN left(CAST(value AS STRING), 120)
  WHEN 'missing_field' THEN if(missing = '', 'resource.status', missing)
  WHEN 'unknown_schema_version' THEN {_text("schema_version")}
  WHEN 'invalid_patient_id' THEN patient_id
  WHEN 'bad_timestamp' THEN if(bad_dates = '', {_RECORDED}, bad_dates)
  WHEN 'other_patient' THEN concat({_SUBJECT}, ' in a record of ', patient_id)
END"""


def parse(records: "DataFrame") -> "DataFrame":
    """Bronze records of resources with what every resource has beside them, or why there is none.

    Adds ``record`` (variant), ``resource`` (its text), ``resource_type``, ``resource_id``, ``patient_id``, ``system``,
    ``version``, ``source``, ``recorded_at``, ``recorded_at_inferred``, ``dead_letter_reason`` (NULL for a resource)
    and ``dead_letter_detail``.
    """
    from pyspark.sql import functions as F  # noqa: N812

    readable = f"length(value) <= {MAX_RESOURCE_BYTES} AND is_valid_utf8(CAST(value AS STRING))"
    return (
        records.withColumn("text", F.expr(f"CASE WHEN {readable} THEN CAST(value AS STRING) END"))
        .withColumn("record", F.expr("try_parse_json(text)"))
        .withColumn("patient_id", F.expr(_text("patient_id")))
        .withColumn("system", F.expr("substring_index(patient_id, '/', 1)"))
        .withColumn("source", F.expr(_text("source")))
        .withColumn("resource_type", F.expr(_of_resource("resourceType")))
        .withColumn("resource_id", F.expr(f"concat(system, '/', {_of_resource('id')})"))
        .withColumn("recorded_instant", F.expr(_instant(_RECORDED)))
        .withColumn("missing", F.expr(f"array_join(array_compact(array({_MISSING})), ', ')"))
        .withColumn("bad_dates", F.expr(f"array_join(array_compact(array({_BAD_DATES})), ', ')"))
        .withColumn("resource", F.expr("get_json_object(text, '$.resource')"))
        .withColumn("dead_letter_reason", F.expr(_REASON))
        .withColumn("dead_letter_detail", F.expr(_DETAIL))
        .withColumn("recorded_at", F.expr("coalesce(recorded_instant, received_at)"))
        .withColumn("recorded_at_inferred", F.expr("recorded_instant IS NULL"))
        .withColumn("version", F.expr(_VERSION))
        .drop("text", "recorded_instant", "missing", "bad_dates")
    )


_VERSION = (
    f"unhex(md5(concat_ws('{_SEPARATOR}', patient_id, source, coalesce({_text('recorded_at')}, ''),"
    " coalesce(resource, ''))))"
)

_BORN, _DIED = _of_resource("birthDate"), _of_resource("deceasedDateTime")
_COLUMNS = {
    PATIENT: {
        "gender": _of_resource("gender"),
        "birth_year": f"try_cast(left({_BORN}, 4) AS INT)",
        "birth_date": _day(_BORN),
        "deceased_on": _day(_DIED),
    },
    ENCOUNTER: {
        "encounter_id": "resource_id",
        "part_of": _referenced("partOf"),
        "status": _of_resource("status"),
        "class": _of_resource("class.code"),
        "type": _of_resource("type[0].text"),
        "location": _of_resource("location[0].location.display"),
        "started_at": _instant(_of_resource("period.start")),
        "ended_at": _instant(_of_resource("period.end")),
        "admit_source": _of_resource("hospitalization.admitSource.text"),
        "discharge_disposition": _of_resource("hospitalization.dischargeDisposition.text"),
        "died": f"{_of_resource('hospitalization.dischargeDisposition.coding[0].code')} = 'exp'",
    },
    CLINICAL_RESOURCE: {
        "encounter_id": _referenced("encounter"),
    },
}
"""What is not a column of :func:`parse` already, by table and column."""

_OF_TABLE = {
    PATIENT: "resource_type = 'Patient'",
    ENCOUNTER: "resource_type = 'Encounter'",
    CLINICAL_RESOURCE: "resource_type NOT IN ('Patient', 'Encounter')",
}


def table_name() -> str:
    """SQL for the table that a parsed row belongs to; NULL for a dead letter."""
    arms = " ".join(f"WHEN {condition} THEN '{table.full_name}'" for table, condition in _OF_TABLE.items())
    return f"CASE WHEN dead_letter_reason IS NULL THEN CASE {arms} END END"


def resources(parsed: "DataFrame", table: Table) -> "DataFrame":
    """The parsed rows that belong to one of :data:`TABLES`, shaped as it."""
    columns = (f"{_COLUMNS[table].get(c.name, f'`{c.name}`')} AS `{c.name}`" for c in table.columns)
    return parsed.where("dead_letter_reason IS NULL").where(_OF_TABLE[table]).selectExpr(*columns)
