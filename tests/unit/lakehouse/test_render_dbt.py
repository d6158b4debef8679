from datetime import timedelta

import yaml

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


def test_each_page_and_notebook_is_an_exposure():
    declared = yaml.safe_load((dbt.PROJECT / "models" / "exposures.yml").read_text(encoding="utf-8"))["exposures"]

    root = dbt.PROJECT.parent
    pages = {f"page_{file.stem}" for file in (root / "dashboard" / "views").glob("*.py")} - {
        "page___init__",
        "page_states",
    }
    notebooks = {file.stem for file in (root / "notebooks").glob("*.ipynb")}
    assert {one["name"] for one in declared if one["type"] == "dashboard"} == pages
    assert {one["name"] for one in declared if one["type"] == "notebook"} == notebooks
