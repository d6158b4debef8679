"""Pages made from the declarations: docs/tables.md and docs/lineage.md. Pure text."""

from collections.abc import Iterable
from datetime import timedelta

from lakehouse.pipeline import Flow
from lakehouse.table import Table
from lakehouse.topics import Topic

GENERATED = (
    "This page is made from the declarations by `ward docs`; change `lakehouse/tables.py` or `lakehouse/pipeline.py`."
)


def tables_page(tables: Iterable[Table]) -> str:
    """docs/tables.md: every table with its grain, key, columns and constraints."""
    return "\n".join(["# Tables", "", GENERATED, *(line for table in tables for line in _table_lines(table))]) + "\n"


def _table_lines(table: Table) -> list[str]:
    kept = f"{table.retention.days} days" if table.retention else "for good"
    lines = [
        "",
        f"## {table.full_name}",
        "",
        f"Grain: {table.grain}. Key: {', '.join(f'`{name}`' for name in table.key)}. Kept {kept}.",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
        *(
            f"| `{c.name}` | {c.type}{'' if c.nullable else ', never NULL'} | {_cell(c.comment)} |"
            for c in table.columns
        ),
    ]
    if table.constraints:
        lines += ["", "| a row that breaks it | means |", "|---|---|"]
        lines += [f"| `{c.name}` | {_cell(c.comment)} |" for c in table.constraints]
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def lineage_page(flows: Iterable[Flow], topics: Iterable[Topic]) -> str:
    """docs/lineage.md: which flow reads and writes what, as a picture and as a table."""
    flows = tuple(flows)
    names = {topic.name for topic in topics}
    used = sorted({name for flow in flows for name in (*flow.reads, *flow.writes, *flow.adds_to)})
    shapes = [f"  {_id(name)}[({name})]" if name not in names else f"  {_id(name)}>{name}]" for name in used]
    arrows = [f"  {_id(name)} --> {flow.name}" for flow in flows for name in flow.reads]
    arrows += [f"  {flow.name} --> {_id(name)}" for flow in flows for name in (*flow.writes, *flow.adds_to)]
    steps = [f"  {flow.name}{{{{{flow.name}}}}}" for flow in flows]
    rows = [
        f"| {flow.name} | {flow.application} | {_list(flow.reads)} | {_list((*flow.writes, *flow.adds_to))} |"
        f" {_span(flow.trigger)} | {_span(flow.freshness)} | {flow.owner} |"
        for flow in flows
    ]
    return "\n".join(
        [
            "# Lineage",
            "",
            GENERATED,
            "",
            "Flags are Kafka topics, cylinders Delta tables, hexagons flows.",
            "",
            "```mermaid",
            "flowchart LR",
            *shapes,
            *steps,
            *arrows,
            "```",
            "",
            "| flow | application | reads | writes | every | at most this old | owner |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _id(name: str) -> str:
    return name.replace(".", "_") + "_"


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _span(span: timedelta | None) -> str:
    if span is None:
        return "as it comes"
    seconds = span.total_seconds()
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
