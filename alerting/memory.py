"""What the engine remembers of one patient between messages: the newest values, short trails, when it last heard.

A memory is changed in place, by messages in the order in which they come; a value that was observed before the newest
one of its signal is left out. It is written with the patient's alerts (alerting/state.py), so nothing starts anew when
a router does. Instants are epoch milliseconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from alerting.evaluation import Evaluation
from alerting.kinds import FlatLineRule, LimitRule, RateRule, Rule, SilenceRule
from alerting.lifecycle import Seen
from lakehouse.scores import INPUT_OF_SIGNAL, Value, input_of
from lakehouse.vocabulary import signal_by_code

TREND_MS = 600_000
"""How far back the trend looks that a notification tells."""
_PARTS = 10
_GAP_WEIGHT = 0.2
"""How fast the usual time between two messages follows: some ten messages."""
_ONE_HEARING_MS = 500
"""What comes within this time of another is one hearing: a round that a system sends value by value is no rhythm."""
_MOST_DEVICES = 8
_DEVICE_KEPT_MS = 3_600_000
"""Of many devices, one that was not heard for an hour is not remembered."""
_ENOUGH = 10
"""So many gaps between hearings tell how often something comes: more than a nurse charts one by one in a round."""


class Plan(NamedTuple):
    """What is remembered of one signal: its trail's width of parts and length (ms), and the score input that it gives.

    ``name`` is the signal's where it gives one, ``plain`` the input's where that is the number as it is.
    """

    name: str | None
    plain: str | None = None
    width: int = 0
    length: int = 0
    flat: bool = False
    heard: bool = False


class Needs(dict[str, Plan]):
    """What a pack's rules need to be remembered, by code. A code that no rule names may still give a score's input."""

    def __missing__(self, code: str) -> Plan:
        plan = self[code] = Plan(*_scored(code))
        return plan


def needs(rules: Iterable[Rule]) -> Needs:
    """What these rules need."""
    rules = tuple(rules)
    windows: dict[str, list[int]] = {rule.code: [TREND_MS] for rule in rules if isinstance(rule, LimitRule)}
    for rule in rules:
        if isinstance(rule, RateRule):
            windows.setdefault(rule.code, [TREND_MS]).append(round(rule.window_s * 1000))
    flat = {rule.code for rule in rules if isinstance(rule, FlatLineRule)}
    heard = {rule.code for rule in rules if isinstance(rule, SilenceRule) and rule.code is not None}
    wanted = Needs()
    for code in {*windows, *flat, *heard}:
        spans = windows.get(code, [0])
        wanted[code] = Plan(*_scored(code), min(spans) // _PARTS, max(spans), code in flat, code in heard)
    return wanted


def _scored(code: str) -> tuple[str | None, str | None]:
    """The name of a signal that gives a score's input, and of the input where that is the number as it is."""
    signal = signal_by_code().get(code)
    source = None if signal is None else INPUT_OF_SIGNAL.get(signal.name)
    if signal is None or source is None:
        return None, None
    return signal.name, source.input if source.plain else None


_Number = int | float
_Three = Annotated[list[_Number], Field(min_length=3, max_length=3)]
_Four = Annotated[list[_Number], Field(min_length=4, max_length=4)]


@dataclass(slots=True)
class MemoryRecord:
    """A memory as JSON has it; the fields are those of Memory."""

    last: list[Seen]
    inputs: dict[str, Seen]
    trails: dict[str, list[_Three]]
    flat: dict[str, _Three]
    heard: dict[str, _Four]
    devices: dict[str, _Four]
    observed_at: int


class Memory:
    """The newest value of each signal and score input, trails, unchanging values, and when was last heard.

    ``last`` is by code, ``inputs`` by name of a score's input. A trail is a list of [start, sum, count], one part after
    another. ``flat`` has [value, since, readings] of a signal by the broker's clock, ``heard`` (by code) and
    ``devices`` (by id) [received_at, usual gap between hearings, instant of the last hearing, gaps].
    """

    __slots__ = ("devices", "flat", "heard", "inputs", "last", "observed_at", "trails")

    def __init__(self) -> None:
        self.last: dict[str, Seen] = {}
        self.inputs: dict[str, Seen] = {}
        self.trails: dict[str, list[list[float]]] = {}
        self.flat: dict[str, list[float]] = {}
        self.heard: dict[str, list[float]] = {}
        self.devices: dict[str, list[float]] = {}
        self.observed_at = 0

    def take(self, evaluation: Evaluation, wanted: Needs) -> None:
        """Remember what a message says."""
        received_at, observed_at, message_id = evaluation.received_at, evaluation.observed_at, evaluation.message_id
        last = self.last
        _hear(self.devices, evaluation.device_id, received_at)
        if len(self.devices) > _MOST_DEVICES:
            self._forget_devices(received_at)
        usable = False
        for code, band, value, _, _, value_code, _, _ in evaluation.readings:
            if band == "none" and value_code is None:
                continue
            usable = True
            plan = wanted[code]
            if plan.heard:
                _hear(self.heard, code, received_at)
            before = last.get(code)
            if before is not None and observed_at < before.observed_at:
                continue
            seen = last[code] = Seen(code, value_code if value is None else value, observed_at, message_id)
            if plan.plain is not None and value is not None:
                if isfinite(value):
                    self._take_input(plan.plain, seen)
            elif plan.name is not None:
                found = input_of(plan.name, value, value_code)
                if found is not None:
                    self._take_input(found[0], seen._replace(value=found[1]))
            if value is not None:
                self._follow(code, value, plan, observed_at, received_at)
        if usable and observed_at > self.observed_at:
            self.observed_at = observed_at

    def _take_input(self, name: str, seen: Seen) -> None:
        before = self.inputs.get(name)
        # Of two at one instant oxygen counts before air: a mask may be charted with the FiO2 of the room.
        if (
            before is None
            or seen.observed_at > before.observed_at
            or (seen.observed_at == before.observed_at and before.value is not True)
        ):
            self.inputs[name] = seen

    def _follow(self, code: str, value: float, plan: Plan, observed_at: int, received_at: int) -> None:
        """Take a value into what is kept of several of its signal."""
        if plan.width:
            trail = self.trails.get(code)
            if trail is None:
                trail = self.trails[code] = []
            _extend(trail, observed_at, value, plan.width, plan.length)
        if plan.flat:
            flat = self.flat.get(code)
            if flat is None or flat[0] != value:
                self.flat[code] = [value, received_at, 1]
            else:
                flat[2] += 1

    def is_of(self, evaluation: Evaluation, code: str) -> bool:
        """Whether the newest value of a signal is one of this message."""
        seen = self.last.get(code)
        return (
            seen is not None and seen.observed_at == evaluation.observed_at and seen.message_id == evaluation.message_id
        )

    def newest(self, evaluation: Evaluation) -> list[str]:
        """The signals, by code, whose newest value is one of this message."""
        last, at, message_id = self.last, evaluation.observed_at, evaluation.message_id
        return [
            reading.code
            for reading in evaluation.readings
            if (seen := last.get(reading.code)) is not None and seen.observed_at == at and seen.message_id == message_id
        ]

    def forget(self, evaluation: Evaluation) -> None:
        """Forget values that were entered in error. What stood before them is not known here any more."""
        for reading in evaluation.readings:
            seen = self.last.get(reading.code)
            if seen is not None and seen.observed_at == evaluation.observed_at:
                del self.last[reading.code]
            for name, kept in list(self.inputs.items()):
                if kept.code == reading.code and kept.observed_at == evaluation.observed_at:
                    del self.inputs[name]

    def was_heard(self, device_id: str | None, since: int) -> bool:
        """Whether something was heard of a device at or after an instant."""
        heard = self.devices.get(device_id or "")
        return heard is not None and heard[0] >= since

    def is_device_frequent(self, device_id: str, within_ms: float) -> bool:
        """Whether a device is known to send at least three times within this time."""
        return _is_frequent(self.devices.get(device_id), within_ms)

    def silent_since(self, code: str | None, after_ms: float) -> int | None:
        """When what came often enough to be missed was heard last, None where it did not.

        Without a code: whichever of the patient's devices that send so often was heard last.
        """
        if code is not None:
            heard = self.heard.get(code)
            return int(heard[0]) if heard is not None and _is_frequent(heard, after_ms) else None
        instants = [int(heard[0]) for heard in self.devices.values() if _is_frequent(heard, after_ms)]
        return max(instants) if instants else None

    def _forget_devices(self, now: int) -> None:
        for name, heard in list(self.devices.items()):
            if now - heard[0] > _DEVICE_KEPT_MS:
                del self.devices[name]

    def change(self, code: str, window_ms: float, *, rise: bool) -> tuple[float, float] | None:
        """How far the newest part of a trail has risen (or fallen) within a window, and from where; None: unknown."""
        trail = self.trails.get(code)
        if not trail:
            return None
        newest = trail[-1]
        after = newest[0] - window_ms
        means = [total / count for start, total, count in trail[:-1] if start > after]
        if not means:
            return None
        now = newest[1] / newest[2]
        start = min(means) if rise else max(means)
        return (now - start if rise else start - now), start

    def trend(self, code: str) -> tuple[float, int] | None:
        """The mean of the oldest part within the last ten minutes, and how many seconds ago; None: unknown."""
        trail = self.trails.get(code)
        if not trail:
            return None
        newest = trail[-1][0]
        for start, total, count in trail[:-1]:
            if newest - start <= TREND_MS:
                return total / count, round((newest - start) / 1000)
        return None

    def record(self) -> dict[str, Any]:
        """The memory as JSON takes it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"last": list(self.last.values())}


def restored(record: MemoryRecord) -> Memory:
    """The memory in a record."""
    memory = Memory()
    for name in Memory.__slots__:
        setattr(memory, name, getattr(record, name))
    memory.last = {seen.code: seen for seen in record.last}
    return memory


def usable(inputs: Mapping[str, Seen], at: int, stale_ms: Mapping[str, int]) -> dict[str, Value]:
    """Values by input name that are no older than their limit at an instant."""
    return {name: seen.value for name, seen in inputs.items() if at - seen.observed_at <= stale_ms[name]}


def _hear(heard_of: dict[str, list[float]], name: str, at: int) -> None:
    heard = heard_of.get(name)
    if heard is None:
        heard_of[name] = [at, 0.0, at, 0]
    elif at > heard[0]:
        heard[0] = at
        gap = at - heard[2]
        if gap >= _ONE_HEARING_MS:
            heard[1] = gap if heard[3] == 0 else heard[1] + _GAP_WEIGHT * (gap - heard[1])
            heard[2] = at
            heard[3] += 1


def _is_frequent(heard: list[float] | None, within_ms: float) -> bool:
    """Whether something is known to come at least three times within this time."""
    return heard is not None and heard[3] >= _ENOUGH and heard[1] * 3 <= within_ms


def _extend(trail: list[list[float]], at: int, value: float, width: int, length: int) -> None:
    start = at - at % width
    newest = trail[-1] if trail else None
    if newest is None or newest[0] < start:
        trail.append([start, value, 1])
        while start - trail[0][0] > length:
            del trail[0]
    elif newest[0] == start:
        newest[1] += value
        newest[2] += 1
