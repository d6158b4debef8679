"""Silver: FHIR resources of bronze to patients, encounters and others, each version once.

Part of the flow ``observation``: nearly every batch of bronze holds no resource, and a query of its own would pay for
looking at each of them once more.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse import delta
from lakehouse.delta import Write
from lakehouse.tables import COORDINATES, DEAD_LETTER
from lakehouse.topics import CLINICAL_RESOURCE
from lakehouse.transforms.clinical_resource import TABLES, of_resources, parse, resources, table_name
from lakehouse.transforms.observation import dead_letters
from streaming import query
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_COORDINATES = tuple(column.name for column in COORDINATES)


def split(records: "DataFrame", config: StreamConfig) -> tuple["DataFrame", "DataFrame"]:
    """Bronze records of messages, and those of resources."""
    condition = of_resources(config.topic(CLINICAL_RESOURCE))
    return records.where(f"NOT {condition}"), records.where(condition)


def land(records: "DataFrame", config: StreamConfig, identity: Callable[[str], Write]) -> None:
    """Land one batch of bronze records of resources; nothing is done where there are none."""
    if records.isEmpty():
        return
    with query.held(parse(records)) as parsed:
        found = {row["name"] for row in parsed.selectExpr(f"{table_name()} AS name").distinct().collect()}
        for table in TABLES:
            if table.full_name in found:
                rows, write = resources(parsed, table), identity(f"resource/{table.name}")
                delta.insert_missing(rows, table, config.data.table(table), write, first_by=_COORDINATES)
        if None in found:
            dead, path = dead_letters(parsed), config.data.table(DEAD_LETTER)
            delta.insert_missing(dead, DEAD_LETTER, path, identity("resource/dead_letter"), first_by=("received_at",))
