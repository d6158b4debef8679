from datetime import timedelta
from pathlib import Path

import pytest

from lakehouse.pages import GENERATED, lineage_page, tables_page
from lakehouse.pipeline import Flow
from lakehouse.table import Column, Constraint, Table
from lakehouse.topics import Topic
from wardhouse.commands.docs import generated

ROOT = Path(__file__).parents[3]
READING = Table(
    layer="silver",
    name="reading",
    grain="one reading",
    columns=(Column("id", "STRING", "which", nullable=False), Column("kind", "STRING", "a | b")),
    key=("id",),
    constraints=(Constraint("no_id", "$id <> ''", "empty | missing"),),
    retention=timedelta(days=30),
)


@pytest.mark.parametrize("path", generated(), ids=str)
def test_what_is_made_from_the_declarations_is_up_to_date(path):
    assert (ROOT / path).read_text(encoding="utf-8") == generated()[path], "run `ward docs`"


def test_a_table_has_its_grain_key_columns_and_constraints():
    assert tables_page([READING]).splitlines() == [
        "# Tables",
        "",
        GENERATED,
        "",
        "## silver.reading",
        "",
        "Grain: one reading. Key: `id`. Kept 30 days.",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
        "| `id` | STRING, never NULL | which |",
        "| `kind` | STRING | a \\| b |",
        "",
        "| a row that breaks it | means |",
        "|---|---|",
        "| `no_id` | empty \\| missing |",
    ]


def test_a_flow_is_drawn_between_what_it_reads_and_writes():
    flow = Flow(
        name="reading",
        reads=("vitals",),
        writes=("silver.reading",),
        build="x:y",
        application="lakehouse",
        owner="ward",
        trigger=timedelta(seconds=90),
        freshness=timedelta(hours=2),
    )
    topic = Topic("vitals", "messages", 1, None)

    assert lineage_page([flow], [topic]).splitlines()[5:] == [
        "",
        "```mermaid",
        "flowchart LR",
        "  silver_reading_[(silver.reading)]",
        "  vitals_>vitals]",
        "  reading{{reading}}",
        "  vitals_ --> reading",
        "  reading --> silver_reading_",
        "```",
        "",
        "| flow | application | reads | writes | every | at most this old | owner |",
        "|---|---|---|---|---|---|---|",
        "| reading | lakehouse | `vitals` | `silver.reading` | 90 s | 2 h | ward |",
    ]
