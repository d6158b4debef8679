"""The pipeline, declared: what reads what, writes what, how often, and who answers for it.

The runner, the Airflow schedules, freshness rules, dbt sources and docs/lineage.md are made from ``FLOWS``. ``build``
is an import path, so that reading this module imports neither Spark nor anything that a flow needs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter

from lakehouse.table import DeclarationError
from lakehouse.tables import TABLES
from lakehouse.topics import TOPICS


@dataclass(frozen=True)
class Flow:
    """One step of the pipeline.

    ``application`` is the process that runs it (``alerts``, ``lakehouse`` and ``waveform`` are Spark applications).
    ``checkpoint`` says whether it keeps one under the data dir. ``freshness`` is how old what it writes may be.
    ``adds_to`` names tables of another flow of its application to which it only adds rows, of other keys.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    build: str
    application: str
    owner: str
    adds_to: tuple[str, ...] = ()
    trigger: timedelta | None = None
    checkpoint: bool = False
    freshness: timedelta | None = None


ALERT_LIMITS = Flow(
    name="alert_limits",
    reads=("vitals", "alert.rules"),
    writes=("alert.evaluations",),
    build="streaming.alert_limits:start",
    application="alerts",
    owner="ward",
    # In real-time mode the trigger is the checkpoint interval. A checkpoint holds messages up for a second, and a
    # restart does not need it: the flow goes on behind its own last evaluations (streaming/evaluated.py).
    trigger=timedelta(hours=1),
    checkpoint=True,
    freshness=timedelta(seconds=1),
)
ALERT_ROUTER = Flow(
    name="alert_router",
    reads=("alert.evaluations", "alert.command", "alert.limit", "alert.rules", "risk"),
    writes=("alerts", "alert.state", "alert.notification"),
    build="alerting.router:run",
    application="router",
    owner="ward",
    freshness=timedelta(seconds=1),
)
ALERT_NOTIFY = Flow(
    name="alert_notify",
    reads=("alert.notification",),
    writes=("alert.delivery",),
    build="alerting.notifier:run",
    application="notify",
    owner="ward",
    freshness=timedelta(seconds=10),
)
DEVICE_MESSAGE = Flow(
    name="device_message",
    reads=("vitals", "clinical.resource"),
    writes=("bronze.device_message",),
    build="streaming.device_message:start",
    application="lakehouse",
    owner="data-engineering",
    trigger=timedelta(seconds=10),
    checkpoint=True,
    freshness=timedelta(seconds=15),
)
BACKFILL = Flow(
    name="backfill",
    reads=("spool",),
    # What the commands that fill the spool say of themselves.
    writes=("operation.backfill_run", "operation.quarantine_fix"),
    adds_to=("bronze.device_message",),
    build="streaming.backfill:start",
    application="lakehouse",
    owner="data-engineering",
    trigger=timedelta(seconds=10),
    checkpoint=True,
)
OBSERVATION = Flow(
    name="observation",
    reads=("bronze.device_message",),
    writes=(
        "silver.observation",
        "silver.observation_quarantine",
        "silver.dead_letter",
        "silver.patient",
        "silver.encounter",
        "silver.clinical_resource",
        "gold.vital_sign_minute",
    ),
    build="streaming.observation:start",
    application="lakehouse",
    owner="data-engineering",
    # At few messages a batch takes half of this; at many it takes longer, and the next one begins at once.
    trigger=timedelta(seconds=10),
    checkpoint=True,
    freshness=timedelta(seconds=90),
)
EARLY_WARNING_SCORE = Flow(
    name="early_warning_score",
    reads=("silver.observation",),
    writes=("gold.score_input", "gold.early_warning_score"),
    build="streaming.early_warning_score:start",
    application="lakehouse",
    owner="data-engineering",
    # A ward acts on the router's score, at once. This one is for research, and batches cost most by their number.
    trigger=timedelta(minutes=5),
    checkpoint=True,
    freshness=timedelta(minutes=15),
)
RISK_SCORE = Flow(
    name="risk_score",
    reads=("gold.vital_sign_minute", "gold.score_input", "silver.patient"),
    writes=("gold.risk_score", "risk"),
    build="streaming.risk_score:run",
    application="risk",
    owner="data-science",
    trigger=timedelta(minutes=1),
    freshness=timedelta(minutes=5),
)
WAVEFORM_MESSAGE = Flow(
    name="waveform_message",
    reads=("waveform",),
    writes=("bronze.waveform_message",),
    build="streaming.waveform_message:start",
    application="waveform",
    owner="data-engineering",
    # Nobody waits for it as for vital signs, and each batch costs.
    trigger=timedelta(seconds=30),
    checkpoint=True,
    freshness=timedelta(seconds=90),
)
WAVEFORM_CHUNK = Flow(
    name="waveform_chunk",
    reads=("bronze.waveform_message",),
    writes=("silver.waveform_chunk", "silver.waveform_dead_letter"),
    build="streaming.waveform_chunk:start",
    application="waveform",
    owner="data-engineering",
    trigger=timedelta(seconds=30),
    checkpoint=True,
    freshness=timedelta(minutes=3),
)
RHYTHM_MINUTE = Flow(
    name="rhythm_minute",
    reads=("silver.waveform_chunk",),
    writes=("gold.rhythm_minute",),
    build="streaming.rhythm_minute:start",
    application="waveform",
    owner="data-science",
    # Each batch searches the minute anew in which it ends, and what leads in to each: longer batches search less twice.
    trigger=timedelta(minutes=5),
    checkpoint=True,
    freshness=timedelta(minutes=15),
)
ALERT_EVENT = Flow(
    name="alert_event",
    reads=("alerts",),
    writes=("gold.alert_event", "gold.alert"),
    build="streaming.alert_event:start",
    application="lakehouse",
    owner="data-engineering",
    trigger=timedelta(seconds=30),
    checkpoint=True,
    freshness=timedelta(seconds=90),
)
ALERT_NOTIFICATION = Flow(
    name="alert_notification",
    reads=("alert.notification", "alert.delivery"),
    writes=("gold.alert_notification", "gold.alert_delivery"),
    build="streaming.alert_notification:start",
    application="lakehouse",
    owner="data-engineering",
    trigger=timedelta(seconds=30),
    checkpoint=True,
    freshness=timedelta(seconds=90),
)
AUDIT_EVENT = Flow(
    name="audit_event",
    reads=("audit",),
    writes=("gold.audit_event",),
    build="streaming.audit_event:start",
    application="lakehouse",
    owner="data-engineering",
    # Nobody waits for it, and each batch costs: the topic keeps the records for thirty days.
    trigger=timedelta(minutes=1),
    checkpoint=True,
    freshness=timedelta(minutes=5),
)
DATA_QUALITY = Flow(
    name="data_quality",
    reads=(
        "bronze.device_message",
        "silver.observation",
        "silver.observation_quarantine",
        "silver.dead_letter",
        "silver.patient",
        "silver.encounter",
        "silver.clinical_resource",
        "gold.vital_sign_minute",
        "gold.score_input",
        "gold.early_warning_score",
        "gold.risk_score",
        "gold.alert_event",
        "gold.alert",
        "gold.alert_notification",
        "gold.alert_delivery",
        "gold.audit_event",
    ),
    writes=("quality.validation_result",),
    build="expectations.runner:run",
    application="airflow",
    owner="data-engineering",
    trigger=timedelta(hours=1),
    freshness=timedelta(hours=2),
)
COHORTS = Flow(
    name="cohorts",
    reads=(
        "silver.observation",
        "silver.patient",
        "silver.encounter",
        "gold.early_warning_score",
        "gold.alert",
    ),
    writes=(
        "mart.icu_stay",
        "mart.vital_sign",
        "mart.vital_sign_hourly",
        "mart.first_day_vital_sign",
        "mart.coma_score",
        "mart.first_day_coma_score",
        "mart.news2_trajectory",
        "mart.cohort_adult_first_icu_stay",
        "mart.cohort_hypoxaemia",
        "mart.cohort_sustained_tachycardia",
        "mart.cohort_hypotension",
        "mart.cohort_fever",
        "mart.cohort_suspected_sepsis",
        "mart.deterioration_label",
        "mart.alert_burden",
    ),
    build="wardhouse.commands.dbt:dbt",
    application="airflow",
    owner="data-engineering",
    trigger=timedelta(days=1),
    freshness=timedelta(days=2),
)
MAINTENANCE = Flow(
    name="table_maintenance",
    # It changes how tables lie on the disk, and not what they say.
    reads=("bronze.device_message", "silver.observation"),
    writes=("operation.table_maintenance",),
    build="lakehouse.maintenance:maintain",
    application="airflow",
    owner="data-engineering",
    trigger=timedelta(days=1),
    freshness=timedelta(days=2),
)
FLOWS = (
    ALERT_LIMITS,
    ALERT_ROUTER,
    ALERT_NOTIFY,
    DEVICE_MESSAGE,
    BACKFILL,
    OBSERVATION,
    EARLY_WARNING_SCORE,
    RISK_SCORE,
    WAVEFORM_MESSAGE,
    WAVEFORM_CHUNK,
    RHYTHM_MINUTE,
    ALERT_EVENT,
    ALERT_NOTIFICATION,
    AUDIT_EVENT,
    DATA_QUALITY,
    COHORTS,
    MAINTENANCE,
)


def topics_of(flows: Iterable[Flow]) -> frozenset[str]:
    """Declared names of the topics that some flows read or write."""
    named = {name for flow in flows for name in (*flow.reads, *flow.writes)}
    return frozenset(topic.name for topic in TOPICS if topic.name in named)


_SOURCES = ("vitals", "clinical.resource", "waveform", "alert.command", "alert.limit", "alert.rules", "audit", "spool")
"""What comes from outside the pipeline: devices, gateway, people, published files."""


def check(flows: Iterable[Flow] = FLOWS) -> tuple[Flow, ...]:
    """The flows in an order in which each comes after those it reads from.

    Raises DeclarationError for a read that nothing writes, an unknown name, two writers of one thing, or a cycle.
    """
    flows = tuple(flows)
    known = {table.full_name for table in TABLES} | {topic.name for topic in TOPICS} | _marts(flows)
    by_name = {flow.name: flow for flow in flows}
    if len(by_name) < len(flows):
        raise DeclarationError("two flows have one name")
    writer_of: dict[str, Flow] = {}
    for flow in flows:
        for name in flow.writes:
            if name not in known:
                raise DeclarationError(f"flow {flow.name} writes {name}, which is neither a table nor a topic")
            if name in writer_of:
                raise DeclarationError(f"{name} has two writers: {writer_of[name].name} and {flow.name}")
            writer_of[name] = flow
    for flow in flows:
        for name in flow.adds_to:
            if name not in writer_of or writer_of[name].application != flow.application:
                raise DeclarationError(f"flow {flow.name} adds to {name}, which no flow of its application writes")
        for name in flow.reads:
            if name not in writer_of and name not in _SOURCES:
                raise DeclarationError(f"flow {flow.name} reads {name}, which nothing writes")
    feeds = {name: {flow.name for flow in flows if name in (*flow.writes, *flow.adds_to)} for name in known}
    before = {flow.name: set().union(*(feeds.get(name, set()) for name in flow.reads)) for flow in flows}
    try:
        return tuple(by_name[name] for name in TopologicalSorter(before).static_order())
    except CycleError as error:
        raise DeclarationError(f"flows read each other in a circle: {' -> '.join(error.args[1])}") from error


def _marts(flows: Iterable[Flow]) -> set[str]:
    """What dbt writes: its models declare their columns and tests in dbt_project."""
    return {name for flow in flows for name in flow.writes if name.startswith("mart.")}


def flow_named(name: str) -> Flow:
    """The declared flow of this name; KeyError otherwise."""
    for flow in FLOWS:
        if flow.name == name:
            return flow
    raise KeyError(f"no flow named {name}; declared: {', '.join(flow.name for flow in FLOWS)}")


def flows_of(application: str) -> tuple[Flow, ...]:
    """The flows that one application runs, in dependency order."""
    return tuple(flow for flow in check() if flow.application == application)
