"""The dbt sources, made from the table declarations."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from lakehouse.table import Table

_HEADER = "# Made from lakehouse/tables.py by lakehouse.render_dbt; a test compares. Change the declaration instead.\n"


def dbt_sources_yaml(tables: Iterable[Table], fresh: Mapping[str, timedelta]) -> str:
    """The ``sources`` file of a dbt project: one source a layer, each with its tables and columns.

    ``fresh`` says of some tables, by full name, how long ago the broker may have had their newest row, in whole hours.
    """
    import yaml

    layers: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        columns = [
            {"name": column.name, "data_type": column.type.lower(), "description": column.comment}
            for column in table.columns
        ]
        described: dict[str, Any] = {"name": table.name, "description": f"Grain: {table.grain}."}
        if table.full_name in fresh:
            warn_after = {"count": fresh[table.full_name] // timedelta(hours=1), "period": "hour"}
            described["config"] = {"loaded_at_field": "received_at", "freshness": {"warn_after": warn_after}}
        layers.setdefault(table.layer, []).append(described | {"columns": columns})
    sources = [{"name": layer, "schema": layer, "tables": of_layer} for layer, of_layer in layers.items()]
    document = {"version": 2, "sources": sources}
    return _HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
