"""What tables and topics hold of a patient around a time, as the evidence of ``ward alerts why-not``."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from alerting import limits
from alerting.compacted import TopicError, newest
from alerting.evaluation import Evaluation
from alerting.history import COLUMNS, Device, Place, devices, evaluations, usable
from alerting.in_force import InForce
from alerting.kinds import DeviceRule, Rule, ScoreRule
from alerting.limits import LimitError, OwnLimits
from alerting.stored import rows, tellings
from alerting.why_not import Evidence, Question, span_needed
from alerting.words import instant
from lakehouse.datadir import DataDir
from lakehouse.pipeline import OBSERVATION
from lakehouse.reader import TableMissingError, query
from lakehouse.scores import STALE_AFTER
from lakehouse.topics import ALERT_LIMIT
from lakehouse.vocabulary import signal_by_name
from wardhouse.alerts import silences_by_id
from wardhouse.broker import bootstrap_servers
from wardhouse.in_force import in_force_or_started_with
from wardhouse.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

LANDED_AFTER = OBSERVATION.freshness or timedelta(seconds=90)
"""What came so long ago is in silver: nothing before then may be taken for silence."""

_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
# One of the two alone would miss what came late, or what an earlier clock observed; two conditions on two columns in
# one OR would read every file.
_NEAR = """
SELECT {columns} FROM {table}
WHERE patient_id = $patient AND observed_at BETWEEN $start AND $stop
UNION ALL
SELECT {columns} FROM {table}
WHERE patient_id = $patient AND received_at BETWEEN $start AND $stop AND observed_at NOT BETWEEN $start AND $stop
"""
_BEFORE = """
SELECT {columns} FROM silver.observation
WHERE patient_id = $patient AND code = $code AND observed_at BETWEEN $earliest AND $start
ORDER BY observed_at DESC LIMIT 1
"""

_EVENTS = """
SELECT * FROM gold.alert_event WHERE patient_id = $patient AND rule_id = $rule ORDER BY alert_id, sequence
"""
_MESSAGES = """
SELECT topic, "partition", "offset", value FROM bronze.device_message
WHERE key = $key AND received_at BETWEEN $start AND $stop
"""


def gather(settings: Settings, data: DataDir, question: Question, rules: str | None, now: datetime) -> Evidence:
    """Everything that bears on the question. Raises PackError; a table that is not there is named in the evidence."""
    found = in_force_or_started_with(settings, data, rules)
    rule = found.pack.rule(question.rule_id)
    remarks = [_remark(found, question.at)]
    missing: list[str] = []
    named = {"patient": question.patient_id, "rule": question.rule_id}
    events = rows(data, _EVENTS, named, missing)
    told = tellings(data, [event["alert_id"] for event in events])
    own = _own_limits(settings, data, question, found, remarks)
    made: list[Evaluation] = []
    if rule is not None:
        made = _evaluations(data, question, found, rule, own, missing)
    return Evidence(
        pack=found.pack,
        evaluations=made,
        events=events,
        notifications=told.notifications,
        deliveries=told.deliveries,
        own=own,
        silences=silences_by_id(settings, data),
        until=round((now - LANDED_AFTER).timestamp() * 1000),
        missing=(*missing, *told.missing),
        remarks=(*remarks, *(f"{table} is not there" for table in missing)),
    )


def _remark(found: InForce, at: int) -> str:
    """Which pack judges, and whether it was the one in force then."""
    if found.applied is None:
        return f"judged by {found.pack.label}, {found.told_by}"
    since = found.applied.at.timestamp() * 1000
    later = "; it was applied after that time, and what was in force then is not kept" if since > at else ""
    return f"judged by {found.pack.label}, in force since {instant(since)}{later}"


def _own_limits(
    settings: Settings, data: DataDir, question: Question, found: InForce, remarks: list[str]
) -> tuple[OwnLimits, ...]:
    """The patient's own limits as they are now; what cannot be said of them goes to the remarks."""
    try:
        records = newest(bootstrap_servers(settings, data), settings.topic(ALERT_LIMIT))
    except TopicError:
        remarks.append("no broker answers: own limits of the patient and silences are left out")
        return ()
    own = []
    for key, value in records.items():
        try:
            limit = limits.decode(key, value)[2]
        except LimitError as error:
            remarks.append(f"left out: {error}")
            continue
        if limit is not None and limit.patient_id == question.patient_id:
            own.append(limit)
    rule = found.pack.rule(question.rule_id)
    taken, refused = usable(found.pack, own)
    remarks += [f"own limits that the pack does not take: {text}" for text in refused]
    code = getattr(rule, "code", None)
    remarks += [
        f"the patient's own limits were set {instant(one.set_at)}; what held before is not kept"
        for one in taken
        if one.set_at > question.at and one.code == code
    ]
    return taken


def _evaluations(
    data: DataDir, question: Question, found: InForce, rule: Rule, own: tuple[OwnLimits, ...], missing: list[str]
) -> list[Evaluation]:
    back, ahead = span_needed(rule)
    at = datetime.fromtimestamp(question.at / 1000, UTC)
    span = {"patient": question.patient_id, "start": at - back, "stop": at + ahead}
    try:
        good = query(data, _NEAR.format(columns=_NAMES, table="silver.observation"), span)
        if isinstance(rule, ScoreRule):
            good = _with_scale(data, good, span)
    except TableMissingError as error:
        missing.append(error.table.full_name)
        return []
    try:
        bad = query(
            data, _NEAR.format(columns=f"{_NAMES}, failed_constraints", table="silver.observation_quarantine"), span
        )
    except TableMissingError as error:
        missing.append(error.table.full_name)
        bad = None
    said = _devices(data, span, missing) if isinstance(rule, DeviceRule) else None
    return list(evaluations(good, bad, found.pack, own=own, devices=said))


def _with_scale(data: DataDir, good: "pa.Table", span: dict[str, Any]) -> "pa.Table":
    """The values, and the SpO2 scale that a clinician set before them: it holds for long."""
    import pyarrow as pa

    earliest = span["start"] - STALE_AFTER["spo2_scale"]
    wanted = {"patient": span["patient"], "start": span["start"], "earliest": earliest}
    scale = query(data, _BEFORE.format(columns=_NAMES), {**wanted, "code": signal_by_name()["spo2_scale"].code})
    return pa.concat_tables([scale, good], promote_options="permissive")


def _devices(data: DataDir, span: dict[str, Any], missing: list[str]) -> dict[Place, Device]:
    """What devices said of themselves in the messages of the span: bronze alone has it."""
    try:
        messages = query(
            data, _MESSAGES, {"start": span["start"], "stop": span["stop"], "key": span["patient"].encode()}
        )
    except TableMissingError as error:
        missing.append(error.table.full_name)
        return {}
    return devices(messages)
