"""Lineage of flows and models as OpenLineage events: which run read and wrote which tables and topics.

Off unless the environment says where events go, by OpenLineage's own variables (OPENLINEAGE_URL, OPENLINEAGE_CONFIG or
OPENLINEAGE__TRANSPORT__TYPE). They leave on a thread of their own: no batch waits for whoever takes them, and where
nobody does they are dropped, which is said once.
"""

import logging
import os
import queue
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

from lakehouse import storage
from lakehouse.datadir import DataDir
from lakehouse.pipeline import Flow
from lakehouse.table import Table
from lakehouse.tables import TABLES
from lakehouse.topics import TOPICS

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

NAMESPACE = "wardhouse"
PRODUCER = "urn:wardhouse"
_PARENT_VARIABLE = "OPENLINEAGE_PARENT_ID"
_VARIABLES = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE")
_WAITING = 1_000
"""Events that wait for a receiver that is slow; more are dropped."""

Kind = Literal["START", "RUNNING", "COMPLETE", "FAIL"]
State = tuple[Kind, datetime]

log = logging.getLogger(__name__)


class LineageError(RuntimeError):
    """Events cannot be sent as the environment says; the text says what to do."""


@dataclass(frozen=True)
class Places:
    """Where tables and topics are. ``topics`` are the site's names by declared name."""

    data: DataDir
    bootstrap: str = ""
    topics: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Job:
    """What runs: ``kind`` is STREAMING or BATCH, ``integration`` what runs it."""

    name: str
    about: str
    owner: str
    integration: str
    kind: Literal["STREAMING", "BATCH"]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def of_flow(flow: Flow) -> Job:
    """The job that a declared flow is."""
    writes = (*flow.writes, *flow.adds_to)
    about = f"{', '.join(flow.reads)} to {', '.join(writes)}"
    return Job(flow.name, about, flow.owner, "SPARK", "STREAMING", flow.reads, writes)


class Parent(NamedTuple):
    """The run that another is part of: its job's namespace and name, and its id (a UUID)."""

    namespace: str
    job: str
    run: str


def parent(environment: Mapping[str, str] = os.environ) -> Parent | None:
    """Who started this process, by OpenLineage's variable for it; None where nobody says. Raises LineageError."""
    given = environment.get(_PARENT_VARIABLE)
    if not given:
        return None
    try:
        # A namespace may hold slashes of its own.
        namespace, job, run = given.rsplit("/", 2)
        return Parent(namespace, job, str(UUID(run)))
    except ValueError:
        raise LineageError(f"{_PARENT_VARIABLE} is {given!r}, wanted NAMESPACE/JOB/RUN, the last a UUID") from None


def event(
    job: Job, run: str, state: State, places: Places, error: str | None = None, parent: Parent | None = None
) -> "RunEvent":
    """One event of a run (a UUID). Names are declared ones: ``silver.observation``, ``vitals``."""
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import documentation_job, job_type_job, ownership_job

    kind, at = state
    return event_v2.RunEvent(
        eventTime=at.isoformat(),
        eventType=event_v2.RunState[kind],
        producer=PRODUCER,
        run=event_v2.Run(run, _run_facets(error, parent)),
        job=event_v2.Job(
            NAMESPACE,
            job.name,
            {
                "jobType": job_type_job.JobTypeJobFacet(job.kind, job.integration, "QUERY", producer=PRODUCER),
                "documentation": documentation_job.DocumentationJobFacet(job.about, producer=PRODUCER),
                "ownership": ownership_job.OwnershipJobFacet([ownership_job.Owner(job.owner)], producer=PRODUCER),
            },
        ),
        inputs=_datasets(event_v2.InputDataset, job.reads, places),
        outputs=_datasets(event_v2.OutputDataset, job.writes, places),
    )


def _run_facets(error: str | None, parent: Parent | None) -> dict[str, Any]:
    from openlineage.client.facet_v2 import error_message_run, parent_run

    found: dict[str, Any] = {}
    if error is not None:
        found["errorMessage"] = error_message_run.ErrorMessageRunFacet(error, "PYTHON", producer=PRODUCER)
    if parent is not None:
        of = parent_run.Job(parent.namespace, parent.job)
        found["parent"] = parent_run.ParentRunFacet(parent_run.Run(parent.run), of, producer=PRODUCER)
    return found


_TABLES = {table.full_name: table for table in TABLES}
_TOPICS = frozenset(topic.name for topic in TOPICS)


def _datasets(kind: "type[InputDataset | OutputDataset]", names: Iterable[str], places: Places) -> "list[Any]":
    return [kind(*_place(name, places), facets=_facets(name)) for name in names]


def _place(name: str, places: Places) -> tuple[str, str]:
    """Namespace and name by OpenLineage's rules of naming: a topic of its brokers, a table by where its files are."""
    if name in _TOPICS:
        return f"kafka://{places.bootstrap.split(',')[0]}", (places.topics or {}).get(name, name)
    place = places.data.table_root / name.replace(".", "/")
    if isinstance(place, Path):
        return "file", str(place.resolve())
    return storage.lineage_name(place)


def _facets(name: str) -> dict[str, Any]:
    from openlineage.client.facet_v2 import symlinks_dataset

    if name in _TOPICS:
        return {}
    known = symlinks_dataset.Identifier(NAMESPACE, name, "TABLE")
    found: dict[str, Any] = {"symlinks": symlinks_dataset.SymlinksDatasetFacet([known], producer=PRODUCER)}
    if (table := _TABLES.get(name)) is not None:
        found["schema"] = _schema(table)
    return found


def _schema(table: Table) -> Any:
    from openlineage.client.facet_v2 import schema_dataset

    fields = [
        schema_dataset.SchemaDatasetFacetFields(column.name, column.type, column.comment) for column in table.columns
    ]
    return schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)


class Sender:
    """Sends events on a thread of its own, in order."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: queue.Queue[Any] = queue.Queue(_WAITING)
        self._away = False
        # A daemon: a receiver that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="lineage", daemon=True)
        self._thread.start()

    def send(self, one: "RunEvent") -> None:
        """Take an event; it is gone where a thousand wait already."""
        try:
            self._waiting.put_nowait(one)
        except queue.Full:
            self._is_away("too many wait")

    def close(self, within_s: float = 5.0) -> None:
        """Wait for what is on its way, for so long."""
        self._waiting.put(None)
        self._thread.join(within_s)

    def _run(self) -> None:
        while (one := self._waiting.get()) is not None:
            try:
                self._client.emit(one)
                self._away = False
            except Exception as error:  # noqa: BLE001 - each transport has errors of its own, and no batch may fail by one
                self._is_away(type(error).__name__)

    def _is_away(self, why: str) -> None:
        if not self._away:
            self._away = True
            log.warning("lineage events are not taken (%s): they are dropped until they are", why)


def sender(environment: Mapping[str, str] = os.environ) -> Sender | None:
    """To where the environment says; None where it says nothing. Raises LineageError."""
    if not any(environment.get(name) for name in _VARIABLES):
        return None
    try:
        from openlineage.client import OpenLineageClient
    except ImportError as error:
        raise LineageError(
            "the packages of lineage are not installed: `uv sync --group lineage` brings them"
        ) from error
    try:
        return Sender(OpenLineageClient())
    except Exception as error:
        # Each transport says in its own way what is wrong with its configuration.
        raise LineageError(f"OpenLineage: {error or type(error).__name__}") from error
