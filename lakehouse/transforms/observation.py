"""Parsed messages to observations: LOINC and UCUM, identity, version, and the constraints each one breaks.

Grain: one version of one measured value. Missing data: a field that the message leaves out is NULL; nothing is filled
in but ``recorded_at``, which is then ``observed_at`` and says so.

The conditions are SQL texts in which a field of the observation carries a prefix, so that the same text works on
exploded rows here and inside a lambda over the message's array in the alert flow.
"""

from typing import TYPE_CHECKING

from lakehouse.render import failed_constraints
from lakehouse.tables import OBSERVATION
from lakehouse.vocabulary import units

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_SEPARATOR = "\\u001f"
"""ASCII unit separator: it keeps ("ab", "c") and ("a", "bc") apart in a hash."""


def _unit_map(field: str) -> str:
    entries = ", ".join(f"'{unit.text}', {field.format(unit=unit)}" for unit in units())
    return f"map({entries})"


def unit_sql(prefix: str = "") -> str:
    """The UCUM unit of a unit text; NULL for an unknown one."""
    return f"element_at({_unit_map(chr(39) + '{unit.unit}' + chr(39))}, lower(trim({prefix}unit)))"


def value_sql(prefix: str = "") -> str:
    """The value in the UCUM unit. Converted values keep two decimals, as mimic-code's conversions do."""
    converted = [unit for unit in units() if (unit.scale, unit.offset) != (1.0, 0.0)]
    arms = " ".join(
        f"WHEN '{unit.text}' THEN round({prefix}value * {unit.scale!r}D + {unit.offset!r}D, 2)" for unit in converted
    )
    return f"CASE lower(trim({prefix}unit)) {arms} ELSE {prefix}value END"


def record_sql(prefix: str = "") -> str:
    """What tells observations of one instant apart: the record, else the source's code, else the code."""
    return f"coalesce('r:' || {prefix}record_id, 's:' || {prefix}source_code, 'c:' || {prefix}code, '')"


def repeats_sql(observations: str) -> str:
    """Whether two observations of one message have one identity. Most messages repeat nothing."""
    identities = f"transform({observations}, x -> {record_sql('x.')})"
    return f"size(array_distinct({identities})) < size({observations})"


def values_in_message_sql(observations: str, prefix: str, repeats: str) -> str:
    """How many different values a message gives under the identity of the observation at ``prefix``.

    ``repeats`` is :func:`repeats_sql` of the message, worked out once: it spares the others the search.
    """
    same = f"filter({observations}, x -> {record_sql('x.')} = {record_sql(prefix)})"
    values = f"transform({same}, x -> struct(x.code, x.value, x.value_code, x.unit))"
    return f"CASE WHEN {repeats} THEN size(array_distinct({values})) ELSE 1 END"


def _hash(*parts: str) -> str:
    return f"unhex(md5(concat_ws('{_SEPARATOR}', {', '.join(parts)})))"


_ROW = {
    "observation_id": _hash(
        "message.source", "message.patient_id", "message.device_id", "unix_micros(observed_instant)", record_sql("o.")
    ),
    "version": _hash(
        "message.message_id",
        "message.status",
        # A record_id or source_code may stand for two signals of one message: neither may replace the other.
        "coalesce(o.code, '')",
        "coalesce(CAST(o.value AS STRING), '')",
        "coalesce(o.value_code, '')",
        "coalesce(o.unit, '')",
    ),
    "patient_id": "message.patient_id",
    "encounter_id": "message.encounter_id",
    "device_id": "message.device_id",
    "source": "message.source",
    "location_unit": "message.location.unit",
    "location_bed": "message.location.bed",
    "code": "o.code",
    "value": value_sql("o."),
    "value_code": "o.value_code",
    "unit": unit_sql("o."),
    "status": "message.status",
    "observed_at": "observed_instant",
    "received_at": "received_at",
    "recorded_at": "coalesce(recorded_instant, observed_instant)",
    "recorded_at_inferred": "recorded_instant IS NULL",
    "source_code": "o.source_code",
    "source_value": "o.value",
    "source_unit": "coalesce(o.source_unit, o.unit)",
    "record_id": "o.record_id",
    "message_id": "message.message_id",
    "values_in_message": "values_in_message",
    "topic": "topic",
    "partition": "partition",
    "offset": "offset",
}


def observations(parsed: "DataFrame") -> "DataFrame":
    """Every observation of the parsed messages, and a row for each record that is none.

    Adds to the columns of silver.observation ``failed_constraints`` (empty for a good row) and ``dead_letter_reason``
    with ``dead_letter_detail`` (NULL but for a dead letter, which has only its coordinates beside them). One frame for
    all three, since parsing is what costs: it is done once, and :func:`accepted`, :func:`quarantined` and
    :func:`dead_letters` take their part.
    """
    items = (
        "transform(message.observations, o -> named_struct('o', o, 'values_in_message',"
        f" {values_in_message_sql('message.observations', 'o.', 'repeats')}))"
    )
    exploded = parsed.selectExpr("*", f"{repeats_sql('message.observations')} AS repeats").selectExpr(
        *("topic", "partition", "offset", "received_at", "message", "observed_instant", "recorded_instant"),
        *("dead_letter_reason", "dead_letter_detail"),
        f"inline_outer(CASE WHEN dead_letter_reason IS NULL THEN {items} END)",
    )
    rows = exploded.selectExpr(
        *(f"{sql} AS `{name}`" for name, sql in _ROW.items()), "dead_letter_reason", "dead_letter_detail"
    )
    return rows.selectExpr("*", f"{failed_constraints(OBSERVATION.constraints)} AS failed_constraints")


def dead_letters(rows: "DataFrame") -> "DataFrame":
    """The records that could not be parsed, shaped as silver.dead_letter."""
    return rows.where("dead_letter_reason IS NOT NULL").selectExpr(
        "topic", "partition", "offset", "received_at", "dead_letter_reason AS reason", "dead_letter_detail AS detail"
    )


def accepted(rows: "DataFrame") -> "DataFrame":
    """The observations that break nothing, shaped as silver.observation."""
    good = rows.where("dead_letter_reason IS NULL AND size(failed_constraints) = 0")
    return good.drop("failed_constraints", "dead_letter_reason", "dead_letter_detail")


def quarantined(rows: "DataFrame") -> "DataFrame":
    """The observations that break a constraint, shaped as silver.observation_quarantine."""
    bad = rows.where("dead_letter_reason IS NULL AND size(failed_constraints) > 0")
    return bad.drop("dead_letter_reason", "dead_letter_detail")


NEWEST_FIRST = ("recorded_at", "topic", "partition", "offset", "version")
"""How the versions of one observation order: by when they became known, then by where bronze has them."""


def current_versions(rows: "DataFrame") -> "DataFrame":
    """The newest version of each observation, by recorded_at and then by where bronze has it.

    Nearly all observations have one version, which a 64-bit hash shows: only those that share a hash are sorted.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    newest = [F.col(name).desc() for name in NEWEST_FIRST]
    nth = F.row_number().over(Window.partitionBy("observation_id").orderBy(*newest))
    marked = rows.withColumn("hash", F.xxhash64("observation_id"))
    shared = F.broadcast(marked.groupBy("hash").count().where("count > 1").select("hash"))
    several = marked.join(shared, "hash", "left_semi").withColumn("nth", nth).where("nth = 1")
    alone = marked.join(shared, "hash", "left_anti")
    return alone.unionByName(several.drop("nth")).drop("hash")
