from datetime import timedelta

from lakehouse.render_dbt import dbt_sources_yaml
from lakehouse.table import Column, Table
from wardhouse.commands import dbt

READING = Table(
    layer="silver",
    name="reading",
    grain="one reading",
    columns=(Column("id", "STRING", "hash: of the row", nullable=False), Column("value", "DOUBLE", "in Cel")),
    key=("id",),
)


def test_a_source_lists_tables_by_layer_with_their_columns_and_how_fresh_they_are():
    assert dbt_sources_yaml([READING], {"silver.reading": timedelta(days=1)}).partition("\n")[2] == (
        "version: 2\n"
        "sources:\n"
        "- name: silver\n"
        "  schema: silver\n"
        "  tables:\n"
        "  - name: reading\n"
        "    description: 'Grain: one reading.'\n"
        "    config:\n"
        "      loaded_at_field: received_at\n"
        "      freshness:\n"
        "        warn_after:\n"
        "          count: 24\n"
        "          period: hour\n"
        "    columns:\n"
        "    - name: id\n"
        "      data_type: string\n"
        "      description: 'hash: of the row'\n"
        "    - name: value\n"
        "      data_type: double\n"
        "      description: in Cel\n"
    )


def test_the_sources_of_the_project_are_those_declared():
    committed = dbt.PROJECT / "models" / "staging" / "sources.yml"

    assert committed.read_text(encoding="utf-8") == dbt_sources_yaml(dbt.SOURCES, dbt.FRESH)
