"""The what-if lab: a rule pack tried on history, by the same engine that raises alerts, before anybody is woken by it.

Pure: evaluations in, figures out. Patients do not touch each other, so shares of them may be tried apart and added up.
Somebody must answer in history too: every alert that is told is acknowledged a stated time later.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, NamedTuple

from alerting.command import Acknowledge
from alerting.engine import Engine
from alerting.evaluation import Evaluation
from alerting.kinds import LimitRule
from alerting.lifecycle import OPEN, Event, State
from alerting.notification import Notification
from alerting.pack import Pack
from alerting.telling import ESCALATED, NOT_TOLD

DAY_MS = 86_400_000
SUSTAINED_MS = 60_000
"""An episode counts as sustained when its plateau lasts at least so long."""
AFTERMATH_MS = 120_000
"""An alert that becomes active so soon after an episode is counted as the episode's: its delay may outlast it."""


class Episode(NamedTuple):
    """A labelled episode: when it began, was at its height, and ended (epoch ms), and which rules it breaks then."""

    patient_id: str
    kind: str
    from_ms: int
    plateau_from_ms: int
    plateau_to_ms: int
    to_ms: int
    expected_rules: tuple[str, ...]


@dataclass
class Outcome:
    """What a pack does on some history. Figures of several shares of patients add up.

    ``breaches`` are values beyond a limit: what a system tells that knows neither delay nor memory. ``alerts`` counts
    those that became active and were not muted from the first, by (rule, priority, category), ``told`` notifications by
    reason, ``in_alarm_ms`` how long alerts were active by priority. ``found`` and ``sought`` count sustained episodes
    by kind, ``told_of`` those of which somebody was told; ``true`` and ``false`` physiological alerts within and
    outside any episode; ``delays_ms`` from the beginning of a plateau to the first alert.
    """

    pack: str
    tells: bool = True
    """Whether the pack says whom to tell. If not, every alert is a notification of its own."""
    patients: int = 0
    evaluations: int = 0
    breaches: int = 0
    bed_ms: int = 0
    alerts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    in_alarm_ms: Counter[str] = field(default_factory=Counter)
    sought: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    told_of: Counter[str] = field(default_factory=Counter)
    true: int = 0
    false: int = 0
    delays_ms: list[int] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Add the figures of another share of the patients."""
        self.patients += other.patients
        self.evaluations += other.evaluations
        self.breaches += other.breaches
        self.bed_ms += other.bed_ms
        for mine, its in (
            (self.alerts, other.alerts),
            (self.told, other.told),
            (self.in_alarm_ms, other.in_alarm_ms),
            (self.sought, other.sought),
            (self.found, other.found),
            (self.told_of, other.told_of),
        ):
            mine.update(its)  # type: ignore[arg-type]
        self.true += other.true
        self.false += other.false
        self.delays_ms += other.delays_ms

    @property
    def notifications(self) -> int:
        """Notifications that went to somebody."""
        if not self.tells:
            return sum(self.alerts.values())
        return sum(count for reason, count in self.told.items() if reason != NOT_TOLD)


@dataclass(frozen=True)
class Summary:
    """The figures of an outcome, as a table and JSON show them; shares from 0 to 1, None where nothing was counted."""

    pack: str
    patients: int
    bed_days: float
    evaluations: int
    breaches: int
    alerts: int
    alerts_per_bed_day: float | None
    notifications: int
    notifications_per_bed_day: float | None
    escalations: int
    minutes_in_alarm_per_bed_day: float | None
    episodes: int
    sensitivity: float | None
    told_of: float | None
    ppv: float | None
    delay_s_p50: float | None
    delay_s_p95: float | None
    by_rule: Mapping[str, int]
    by_priority: Mapping[str, int]
    by_kind: Mapping[str, str]


def summary(outcome: Outcome) -> Summary:
    """The figures of an outcome."""
    days = outcome.bed_ms / DAY_MS
    alerts, episodes = sum(outcome.alerts.values()), sum(outcome.sought.values())
    by_rule, by_priority = Counter[str](), Counter[str]()
    for (rule, priority, category), count in outcome.alerts.items():
        by_rule[rule] += count
        by_priority[priority if category == "physiological" else "technical"] += count
    delays = quantiles(outcome.delays_ms, n=20) if len(outcome.delays_ms) > 1 else []
    return Summary(
        pack=outcome.pack,
        patients=outcome.patients,
        bed_days=round(days, 3),
        evaluations=outcome.evaluations,
        breaches=outcome.breaches,
        alerts=alerts,
        alerts_per_bed_day=_share(alerts, days),
        notifications=outcome.notifications,
        notifications_per_bed_day=_share(outcome.notifications, days),
        escalations=outcome.told[ESCALATED],
        minutes_in_alarm_per_bed_day=_share(sum(outcome.in_alarm_ms.values()) / 60_000, days),
        episodes=episodes,
        sensitivity=_share(sum(outcome.found.values()), episodes),
        told_of=_share(sum(outcome.told_of.values()), episodes),
        ppv=_share(outcome.true, outcome.true + outcome.false) if episodes else None,
        delay_s_p50=round(delays[9] / 1000, 1) if delays else None,
        delay_s_p95=round(delays[18] / 1000, 1) if delays else None,
        by_rule=dict(sorted(by_rule.items())),
        by_priority=dict(sorted(by_priority.items())),
        by_kind={kind: f"{outcome.found[kind]}/{count}" for kind, count in sorted(outcome.sought.items())},
    )


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def plain(pack: Pack) -> Pack:
    """The limits of a pack as most systems have them: every value that crosses one is told, at once and by itself."""
    rules = [
        {
            **rule.model_dump(),
            "clear_margin": 0.0,
            "delay_s": 0.0,
            "resolve_after_s": 0.0,
            "latching": False,
            "inhibits": (),
            "escalation": (),
            "units": {name: {**unit.model_dump(), "clear_margin": 0.0} for name, unit in rule.units.items()},
        }
        for rule in pack.rules
        if isinstance(rule, LimitRule)
    ]
    return Pack.model_validate({"name": "plain", "version": pack.version, "title": "Plain thresholds", "rules": rules})


def with_limits(pack: Pack, rule_id: str, *, limit: float | None = None, delay_s: float | None = None) -> Pack:
    """The pack with another limit or delay of one limit rule, everywhere."""
    changed = {"limit": limit, "delay_s": delay_s}
    given = {name: value for name, value in changed.items() if value is not None}
    rules = [
        {**rule.model_dump(), **given, "units": {}} if rule.id == rule_id else rule.model_dump() for rule in pack.rules
    ]
    return Pack.model_validate({**pack.model_dump(exclude={"rules"}), "rules": rules})


@dataclass(eq=False)
class _Heard:
    """An alert that sounded from ``at`` on, until ``ended_at``; None: to the end of the patient's history."""

    rule_id: str
    at: int
    physiological: bool
    ended_at: int | None = None

    def in_time(self, episode: Episode, until: int) -> bool:
        """Whether it began during the episode, or sounded already when the episode had come to its height."""
        if self.at >= episode.from_ms:
            return self.at <= until
        return self.ended_at is None or self.ended_at >= episode.plateau_from_ms


class Trial:
    """One pack on the history of some patients, whose evaluations come in the order in which they were received."""

    def __init__(self, pack: Pack, *, acknowledged_after_s: float | None) -> None:
        self._engine = Engine(pack)
        self._answer_ms = None if acknowledged_after_s is None else round(acknowledged_after_s * 1000)
        self._answers: dict[str, list[Acknowledge]] = {}
        self._spans: dict[str, list[int]] = {}
        self._active: dict[str, tuple[Event, _Heard]] = {}
        self._told_at: dict[str, list[int]] = {}
        self._alerts: dict[str, list[_Heard]] = {}
        self.outcome = Outcome(pack.label, tells=bool(pack.channels))

    def run(self, evaluations: Iterable[Evaluation]) -> None:
        """Try the pack on these."""
        engine, spans = self._engine, self._spans
        for evaluation in evaluations:
            patient_id, at = evaluation.patient_id, evaluation.received_at
            span = spans.get(patient_id)
            if span is None:
                spans[patient_id] = [at, at]
            else:
                self._pass(patient_id, at)
                # Who was not heard of for a day was not in a bed: data sets hold several stays of one patient.
                self.outcome.bed_ms += at - span[1] if at - span[1] <= DAY_MS else 0
                span[1] = at
            engine.evaluate(0, evaluation)
            self._collect()
            self.outcome.evaluations += 1
            if not evaluation.quiet:
                self.outcome.breaches += sum(reading.band == "breach" for reading in evaluation.readings)

    def end(self, episodes: Iterable[Episode] = ()) -> Outcome:
        """The figures, against labelled episodes where there are some. Open alerts end with their patient's history."""
        for event, heard in self._active.values():
            end = self._spans[event["patient_id"]][1]
            self.outcome.in_alarm_ms[event["priority"]] += max(end - heard.at, 0)
        self.outcome.patients = len(self._spans)
        mine = [episode for episode in episodes if episode.patient_id in self._spans]
        if mine:
            self._compare(mine)
        return self.outcome

    def _pass(self, patient_id: str, to: int) -> None:
        """Let time pass for a patient, and acknowledge on the way what was told, one thing after another."""
        answers = self._answers.setdefault(patient_id, [])
        while True:
            due = self._engine.due(patient_id)
            if answers and answers[0].at <= to and (due is None or answers[0].at <= due):
                answer = answers.pop(0)
                self._engine.command(answer, answer.at, {0})
            elif due is not None and due <= to:
                self._engine.pass_one(patient_id, due)
            else:
                return
            self._collect()

    def _collect(self) -> None:
        for patient_id, (events, notifications) in self._engine.take_told().items():
            for event in events:
                self._count(event)
            for notification in notifications:
                self._tell(patient_id, notification)

    def _count(self, event: Event) -> None:
        name, state = event["alert_id"], event["state"]
        at = int(event.get("message_received_at") or event["observed_at"])
        if state == State.ACTIVE and name not in self._active:
            heard = _Heard(event["rule_id"], at, event["category"] == "physiological")
            self._active[name] = event, heard
            if event["reason"] != "unmuted":
                self._alerts.setdefault(event["patient_id"], []).append(heard)
                self._number(event, 1)
        elif (state not in OPEN or state in (State.LATCHED, State.SILENCED)) and name in self._active:
            _, heard = self._active.pop(name)
            heard.ended_at = at
            self.outcome.in_alarm_ms[event["priority"]] += max(at - heard.at, 0)
            alerts = self._alerts.get(event["patient_id"], [])
            if state == State.SILENCED and heard.at == at and heard in alerts:
                # Muted from the first: no alert that anybody hears.
                alerts.remove(heard)
                self._number(event, -1)

    def _number(self, event: Event, alerts: int) -> None:
        self.outcome.alerts[(event["rule_id"], event["priority"], event["category"])] += alerts

    def _tell(self, patient_id: str, notification: Notification) -> None:
        self.outcome.told[notification.reason] += 1
        if notification.reason == NOT_TOLD:
            return
        if any(alert.category == "physiological" for alert in notification.alerts):
            self._told_at.setdefault(patient_id, []).append(notification.at)
        if self._answer_ms is not None:
            at = notification.at + self._answer_ms
            self._answers.setdefault(patient_id, []).extend(
                Acknowledge(alert.alert_id, at, "the lab", patient_id, alert.alert_id) for alert in notification.alerts
            )

    def _compare(self, episodes: list[Episode]) -> None:
        outcome = self.outcome
        of: dict[str, list[Episode]] = {}
        for episode in episodes:
            of.setdefault(episode.patient_id, []).append(episode)
            if episode.plateau_to_ms - episode.plateau_from_ms >= SUSTAINED_MS:
                self._seek(episode)
        for patient_id, alerts in self._alerts.items():
            for heard in alerts:
                if heard.physiological:
                    its = of.get(patient_id, ())
                    real = any(one.from_ms <= heard.at <= one.to_ms + AFTERMATH_MS for one in its)
                    outcome.true += real
                    outcome.false += not real

    def _seek(self, episode: Episode) -> None:
        """Whether an alert of a rule that the episode breaks was there while it lasted, and somebody was told."""
        outcome, until = self.outcome, episode.to_ms + AFTERMATH_MS
        outcome.sought[episode.kind] += 1
        alerts = self._alerts.get(episode.patient_id, ())
        expected = (heard for heard in alerts if heard.rule_id in episode.expected_rules)
        first = min((heard.at for heard in expected if heard.in_time(episode, until)), default=None)
        if first is not None:
            outcome.found[episode.kind] += 1
            outcome.delays_ms.append(max(first, episode.from_ms) - episode.plateau_from_ms)
        heard_at = [heard.at for heard in alerts if heard.physiological]
        told = self._told_at.get(episode.patient_id, ()) if outcome.tells else heard_at
        outcome.told_of[episode.kind] += any(episode.from_ms <= at <= until for at in told)


def fewer(new: Outcome, old: Outcome) -> float | None:
    """By which share a pack tells less often than another."""
    return 1 - new.notifications / old.notifications if old.notifications else None


def table(summaries: Iterable[Summary]) -> Iterator[tuple[str, ...]]:
    """Rows of a table with a column a summary, the names of the figures first."""
    columns = list(summaries)
    for name, title in _TITLES.items():
        yield (title, *(_shown(getattr(one, name)) for one in columns))
    for group, head in (("by_priority", "alerts, "), ("by_rule", "  "), ("by_kind", "found, ")):
        names = dict.fromkeys(name for one in columns for name in getattr(one, group))
        for name in names:
            yield (f"{head}{name}", *(_shown(getattr(one, group).get(name, 0)) for one in columns))


_TITLES = {
    "patients": "patients",
    "bed_days": "bed days",
    "evaluations": "messages",
    "breaches": "values beyond a limit",
    "alerts": "alerts",
    "alerts_per_bed_day": "alerts per bed and day",
    "notifications": "notifications",
    "notifications_per_bed_day": "notifications per bed and day",
    "escalations": "of them escalations",
    "minutes_in_alarm_per_bed_day": "minutes in alarm per bed and day",
    "episodes": "sustained episodes",
    "sensitivity": "sensitivity",
    "told_of": "episodes told of",
    "ppv": "PPV",
    "delay_s_p50": "delay p50, s",
    "delay_s_p95": "delay p95, s",
}


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")
