import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lakehouse.datadir import DataDir
from lakehouse.lineage import Parent, Places
from wardhouse.dbt_lineage import events

BEGUN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def node(name: str, materialized: str, *reads: str) -> dict[str, Any]:
    return {
        "resource_type": "model",
        "name": name,
        "alias": name,
        "schema": "mart",
        "description": f"About {name}.",
        "config": {"materialized": materialized, "meta": {}},
        "depends_on": {"nodes": list(reads)},
    }


def result(name: str, status: str) -> dict[str, Any]:
    timing = {"name": "execute", "started_at": "2026-03-01T12:00:01Z", "completed_at": "2026-03-01T12:00:03Z"}
    return {"unique_id": name, "status": status, "timing": [] if status == "skipped" else [timing]}


def written(folder: Path, generated_at: str) -> Path:
    nodes = {
        "model.w.staged": node("staged", "ephemeral", "source.w.observation"),
        "model.w.stay": node("stay", "table", "model.w.staged"),
        "model.w.cohort": node("cohort", "table", "model.w.stay", "model.w.staged"),
        "test.w.one": {"resource_type": "test"},
    }
    manifest = {"nodes": nodes, "sources": {"source.w.observation": {"schema": "silver", "identifier": "observation"}}}
    results = [result("model.w.stay", "success"), result("test.w.one", "pass"), result("model.w.cohort", "error")]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    metadata = {"generated_at": generated_at, "invocation_id": "i1"}
    (folder / "run_results.json").write_text(
        json.dumps({"metadata": metadata, "results": [*results, result("model.w.stay", "skipped")]})
    )
    return folder


def test_each_model_is_a_run_and_one_that_is_no_table_stands_for_what_it_reads(tmp_path: Path) -> None:
    told = list(events(written(tmp_path, "2026-03-01T12:00:04Z"), Places(DataDir(tmp_path)), BEGUN))
    assert [(one.job.name, one.eventType.value if one.eventType else None) for one in told] == [
        ("dbt.stay", "START"),
        ("dbt.stay", "COMPLETE"),
        ("dbt.cohort", "START"),
        ("dbt.cohort", "FAIL"),
    ]
    assert told[0].run.runId == told[1].run.runId != told[2].run.runId
    assert (told[0].eventTime, told[1].eventTime) == ("2026-03-01T12:00:01+00:00", "2026-03-01T12:00:03+00:00")
    tables = str(tmp_path.resolve() / "tables")
    read = [one.name.removeprefix(tables) for one in told[2].inputs or ()]
    assert read == ["/mart/stay", "/silver/observation"]
    assert [one.name.removeprefix(tables) for one in told[2].outputs or ()] == ["/mart/cohort"]


def test_a_model_is_part_of_the_run_that_had_it_built(tmp_path: Path) -> None:
    task = Parent("airflow", "cohorts.build_models", "0190f2a4-7c1d-7c3e-8f57-0f6a3a2f4b1c")

    told = list(events(written(tmp_path, "2026-03-01T12:00:04Z"), Places(DataDir(tmp_path)), BEGUN, task))

    facets = [(one.run.facets or {})["parent"] for one in told]
    assert {(facet.job.namespace, facet.job.name, facet.run.runId) for facet in facets} == {task}


def test_artefacts_of_an_invocation_before_are_told_no_second_time(tmp_path: Path) -> None:
    assert list(events(tmp_path, Places(DataDir(tmp_path)), BEGUN)) == []
    assert list(events(written(tmp_path, "2026-03-01T11:59:59Z"), Places(DataDir(tmp_path)), BEGUN)) == []
