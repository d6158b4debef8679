"""What dbt built, as lineage: from the artefacts that it leaves, a run for each model. Pure but for reading them."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from lakehouse.lineage import Job, Kind, Parent, Places, event

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

_OWNER = "data-engineering"
_ENDS: Mapping[str, Kind] = {"success": "COMPLETE", "error": "FAIL"}


def events(target: Path, places: Places, since: datetime, parent: Parent | None = None) -> "Iterator[RunEvent]":
    """Begin and end of every model that the last invocation built; nothing where that was before ``since``.

    ``target`` is the folder of manifest.json and run_results.json, ``parent`` who had it built.
    """
    manifest, results = (_read(target / name) for name in ("manifest.json", "run_results.json"))
    if manifest is None or results is None or _instant(results["metadata"]["generated_at"]) < since:
        return
    for result in results["results"]:
        node = manifest["nodes"].get(result["unique_id"], {})
        executed = next((one for one in result["timing"] if one["name"] == "execute"), None)
        if node.get("resource_type") != "model" or result["status"] not in _ENDS or executed is None:
            continue
        job = Job(
            name=f"dbt.{node['name']}",
            about=node["description"] or f"The model {node['name']}.",
            owner=node["config"].get("meta", {}).get("owner", _OWNER),
            integration="DBT",
            kind="BATCH",
            reads=tuple(sorted(set(_relations(manifest, node["depends_on"]["nodes"])))),
            writes=(_name(node["schema"], node["alias"]),),
        )
        run = str(uuid5(NAMESPACE_URL, f"{results['metadata']['invocation_id']}/{result['unique_id']}"))
        begun, ended = (_instant(executed[name]) for name in ("started_at", "completed_at"))
        error = "the model could not be built: dbt's log says why" if result["status"] == "error" else None
        yield event(job, run, ("START", begun), places, parent=parent)
        yield event(job, run, (_ENDS[result["status"]], ended), places, error, parent)


def _relations(manifest: Mapping[str, Any], names: list[str]) -> Iterator[str]:
    """The tables behind nodes: a model that is none itself stands for what it reads."""
    for name in names:
        if (source := manifest["sources"].get(name)) is not None:
            yield _name(source["schema"], source["identifier"])
        elif (node := manifest["nodes"].get(name)) is not None:
            if node["config"]["materialized"] == "ephemeral":
                yield from _relations(manifest, node["depends_on"]["nodes"])
            else:
                yield _name(node["schema"], node["alias"])


def _name(schema: str, relation: str) -> str:
    return f"{schema}.{relation}"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
