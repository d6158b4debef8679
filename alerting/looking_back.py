"""What one rule said of a patient's past, message by message, and what the engine would have made of it. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from alerting import detection
from alerting.detection import Detector
from alerting.engine import Engine, define
from alerting.evaluation import Evaluation
from alerting.kinds import Rule
from alerting.lifecycle import Alert, Event, Finding, State, origin
from alerting.memory import Memory
from alerting.pack import Pack


@dataclass(frozen=True, slots=True)
class Look:
    """One message as a rule sees it. ``finding`` None: it says nothing of what the rule watches.

    ``stale``: it came too late to open an alert. ``usual_gap_ms`` is how often the rule's signal (of a silence without
    one: the device) was heard until then, 0 where that is not known.
    """

    evaluation: Evaluation
    finding: Finding | None
    stale: bool
    usual_gap_ms: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """Every message in order, and the transitions of the rule's alerts that these alone give."""

    looks: tuple[Look, ...]
    events: tuple[Event, ...]


def only(pack: Pack, rule: Rule) -> Pack:
    """The pack with this rule alone: the others do not change what it finds."""
    return pack.model_copy(update={"rules": (rule,)})


def replay(pack: Pack, rule: Rule, evaluations: Iterable[Evaluation], until: int) -> Replayed:
    """One patient's evaluations, in the order in which they came, and then the clock until an instant (epoch ms)."""
    engine = Engine(only(pack, rule))
    detector = Detector((rule,))
    standing = {rule.id: _standing(pack, rule)}
    looks: list[Look] = []
    patient_id: str | None = None
    for evaluation in evaluations:
        engine.advance(evaluation.patient_id, evaluation.received_at)
        patient_id = evaluation.patient_id
        engine.evaluate(0, evaluation)
        memory = engine.patients[evaluation.patient_id].memory
        finding = _found(rule, detector, evaluation, memory, standing)
        code = getattr(rule, "code", None)
        heard = (memory.devices if code is None else memory.heard).get(code or evaluation.device_id, [0, 0.0])
        looks.append(Look(evaluation, finding, origin(evaluation).is_stale(rule.kind), heard[1]))
    if patient_id is not None:
        engine.advance(patient_id, until)
    events = [event for event in _moved(engine) if event["rule_id"] == rule.id]
    return Replayed(tuple(looks), tuple(events))


def _moved(engine: Engine) -> Iterator[Event]:
    for changed in engine.take_moved():
        yield from (orjson.loads(event) for event in changed.unsent.events)


def _found(
    rule: Rule, detector: Detector, evaluation: Evaluation, memory: Memory, standing: Mapping[str, Alert]
) -> Finding | None:
    """What a message says of the rule, in any band: of margin and clear a detector tells while an alert stands."""
    if evaluation.status == "entered-in-error":
        return None
    found: Iterable[Finding]
    if rule.kind == "limit":
        found = detection.limits(evaluation, standing)
    else:
        found = detector.findings(evaluation, memory, standing)
    return next((finding for finding in found if finding.rule_id == rule.id), None)


def _standing(pack: Pack, rule: Rule) -> Alert:
    """An alert of the rule that stands, for the detector alone."""
    nothing: dict[str, Any] = dict.fromkeys(("opened_at", "seen_at", "breached_at", "active_at", "sequence"), 0)
    return Alert(
        alert_id="",
        state=State.ACTIVE,
        definition=define(pack, rule),
        pack=pack.label,
        code=getattr(rule, "code", None),
        limit=None,
        value=None,
        readings=(),
        device_id=None,
        **nothing,
    )
