"""What the engine remembers of one patient between messages: the newest values, short trails, when it last heard.

A memory is changed in place, by messages in the order in which they come; a value that was observed before the newest
one of its signal is left out. It is written with the patient's alerts (alerting/state.py), so nothing starts anew when
a router does. Instants are epoch milliseconds.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from alerting.evaluation import Evaluation, Reading
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
    """What is remembered of one signal: the score input that it gives, its trail's width of parts and length (ms)."""

    name: str | None
    width: int = 0
    length: int = 0
    flat: bool = False
    heard: bool = False


class Needs(dict[str, Plan]):
    """What a pack's rules need to be remembered, by code. A code that no rule names may still give a score's input."""

    def __missing__(self, code: str) -> Plan:
        plan = self[code] = Plan(_scored(code))
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
        wanted[code] = Plan(_scored(code), min(spans) // _PARTS, max(spans), code in flat, code in heard)
    return wanted


def _scored(code: str) -> str | None:
    """The name of a signal that gives a score's input."""
    signal = signal_by_code().get(code)
    return signal.name if signal is not None and signal.name in INPUT_OF_SIGNAL else None


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
        received_at = evaluation.received_at
        _hear(self.devices, evaluation.device_id, received_at)
        if len(self.devices) > _MOST_DEVICES:
            self._forget_devices(received_at)
        observed_at = evaluation.observed_at
        usable = False
        for reading in evaluation.readings:
            if reading.band == "none" and reading.value_code is None:
                continue
            usable = True
            code = reading.code
            plan = wanted[code]
            if plan.heard:
                _hear(self.heard, code, received_at)
            before = self.last.get(code)
            if before is None or observed_at >= before.observed_at:
                self._remember(reading, plan, evaluation)
        if usable and observed_at > self.observed_at:
            self.observed_at = observed_at

    def _remember(self, reading: Reading, plan: Plan, evaluation: Evaluation) -> None:
        code, value, at = reading.code, reading.value, evaluation.observed_at
        seen = Seen(code, reading.value_code if value is None else value, at, evaluation.message_id)
        self.last[code] = seen
        if plan.name is not None:
            self._take_input(plan.name, reading, seen)
        if value is None:
            return
        if plan.width:
            _extend(self.trails.setdefault(code, []), at, value, plan.width, plan.length)
        if plan.flat:
            flat = self.flat.get(code)
            if flat is None or flat[0] != value:
                self.flat[code] = [value, evaluation.received_at, 1]
            else:
                flat[2] += 1

    def _take_input(self, signal: str, reading: Reading, seen: Seen) -> None:
        found = input_of(signal, reading.value, reading.value_code)
        if found is None:
            return
        name, value = found
        before = self.inputs.get(name)
        # Of two at one instant oxygen counts before air: a mask may be charted with the FiO2 of the room.
        if before is not None:
            if seen.observed_at < before.observed_at:
                return
            if seen.observed_at == before.observed_at and before.value is True:
                return
        self.inputs[name] = seen if value is seen.value else seen._replace(value=value)

    def is_of(self, evaluation: Evaluation, code: str) -> bool:
        """Whether the newest value of a signal is one of this message."""
        seen = self.last.get(code)
        return (
            seen is not None and seen.observed_at == evaluation.observed_at and seen.message_id == evaluation.message_id
        )

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
        heard = self.devices.values() if code is None else (self.heard.get(code),)
        return max((int(one[0]) for one in heard if one is not None and _is_frequent(one, after_ms)), default=None)

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
        means = [total / count for start, total, count in trail[:-1] if newest[0] - start < window_ms]
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
        return {
            "last": list(self.last.values()),
            "inputs": self.inputs,
            "trails": self.trails,
            "flat": self.flat,
            "heard": self.heard,
            "devices": self.devices,
            "observed_at": self.observed_at,
        }


def restored(record: Mapping[str, Any]) -> Memory:
    """The memory in a record. Raises KeyError and TypeError."""
    memory = Memory()
    memory.last = {seen[0]: Seen(*seen) for seen in record["last"]}
    memory.inputs = {name: Seen(*seen) for name, seen in record["inputs"].items()}
    memory.trails = record["trails"]
    memory.flat = record["flat"]
    memory.heard = record["heard"]
    memory.devices = record["devices"]
    memory.observed_at = record["observed_at"]
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
    if trail and trail[-1][0] == start:
        part = trail[-1]
        part[1] += value
        part[2] += 1
        return
    if trail and trail[-1][0] > start:
        return
    trail.append([start, value, 1])
    while start - trail[0][0] > length:
        del trail[0]
