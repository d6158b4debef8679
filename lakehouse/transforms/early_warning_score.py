"""Early-warning scores of rows that hold one set of inputs each; bands and missing-data rule: lakehouse/scores.py."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lakehouse.scores import Definition, range_sql, risk_sql

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def scored(rows: "DataFrame", definition: Definition, columns: Mapping[str, str]) -> "DataFrame":
    """The rows with ``total``, ``total_min``, ``total_max``, ``risk`` and ``parts`` (a struct of points by part).

    ``columns`` has an expression for each input that the rows have: numbers, codes as text, truths as BOOLEAN.
    """
    known = dict(columns)
    for name, value in definition.defaults:
        known[name] = f"coalesce({columns[name]}, {value})" if name in columns else str(value)
    names = [part.name for part in definition.parts]
    ends = {part.name: range_sql(part, known) for part in definition.parts}
    ranges = (f"named_struct('low', {low}, 'high', {high}) AS `range_{name}`" for name, (low, high) in ends.items())
    low = " + ".join(f"`range_{name}`.low" for name in names)
    high = " + ".join(f"`range_{name}`.high" for name in names)
    single = definition.single_points or 0
    least = risk_sql(definition, low, " OR ".join(f"`range_{name}`.low = {single}" for name in names))
    most = risk_sql(definition, high, " OR ".join(f"`range_{name}`.high = {single}" for name in names))
    parts = ", ".join(f"'{n}', CASE WHEN `range_{n}`.low = `range_{n}`.high THEN `range_{n}`.low END" for n in names)
    found = (
        f"CASE WHEN ({low}) = ({high}) THEN {low} END AS total",
        f"{low} AS total_min",
        f"{high} AS total_max",
        f"CASE WHEN ({least}) = ({most}) THEN {least} END AS risk",
        f"named_struct({parts}) AS parts",
    )
    return rows.selectExpr("*", *ranges).selectExpr(*(f"`{name}`" for name in rows.columns), *found)
