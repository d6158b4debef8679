"""Records of a topic, JSON each, to rows of the table that keeps them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lakehouse import render
from lakehouse.table import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def rows(records: "DataFrame", table: Table, made: Mapping[str, str], fields: str, *kept: str) -> "DataFrame":
    """The rows; a record that is none gives a row without its key.

    A column is the field of its name, or what ``made`` says: an expression over ``record`` and ``received_at``.
    ``fields`` are those of the JSON that only ``made`` names; ``kept`` are columns of the Kafka record.
    """
    plain = [column for column in table.columns if column.name not in made]
    schema = render.literal(f"{render.schema(plain)}, {fields}")
    parsed = records.selectExpr(f"from_json(CAST(value AS STRING), {schema}) AS record", "received_at", *kept)
    return parsed.selectExpr(*(f"{made.get(c.name, f'record.{c.name}')} AS {c.name}" for c in table.columns), *kept)
