"""The dbt sources, made from the table declarations."""

from collections.abc import Iterable
from typing import Any

from lakehouse.table import Table

_HEADER = "# Made from lakehouse/tables.py by lakehouse.render_dbt; a test compares. Change the declaration instead.\n"


def dbt_sources_yaml(tables: Iterable[Table]) -> str:
    """The ``sources`` file of a dbt project: one source a layer, each with its tables and columns."""
    import yaml

    layers: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        columns = [
            {"name": column.name, "data_type": column.type.lower(), "description": column.comment}
            for column in table.columns
        ]
        layers.setdefault(table.layer, []).append(
            {"name": table.name, "description": f"Grain: {table.grain}.", "columns": columns}
        )
    sources = [{"name": layer, "schema": layer, "tables": of_layer} for layer, of_layer in layers.items()]
    document = {"version": 2, "sources": sources}
    return _HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
