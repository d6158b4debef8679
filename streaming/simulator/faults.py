"""What goes wrong between a monitor and us, each fault by name, with what must become of it downstream.

A message has at most one fault. Reasons of quarantine are the names of lakehouse.tables.OBSERVATION_CONSTRAINTS.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import orjson

from lakehouse import message as contract
from lakehouse.message import Message

LANDED = "parsed"
DUPLICATE = "duplicate"


@dataclass(frozen=True)
class Sending:
    """One record to send, ``delay`` seconds after its time, and what must become of it.

    ``expect`` is ``parsed``, ``duplicate`` or ``dead_letter:REASON``; of the ``observations`` parsed, ``quarantined``
    says how many fall under which constraint. ``refers_to`` is the message that this one repeats, corrects or
    withdraws.
    """

    value: bytes | None
    message_id: str
    observed_at: str
    observations: int
    expect: str = LANDED
    quarantined: Mapping[str, int] = field(default_factory=dict)
    delay: float = 0.0
    refers_to: str | None = None


@dataclass(frozen=True)
class Context:
    """What a fault may use: chance of its own, the cadence in seconds, and ids for further messages.

    ``at_onset`` is what the observations would have been in the message with which a lasting fault began.
    """

    random: Random
    cadence: float
    message_id: Callable[[str], str]
    at_onset: tuple[float, ...] = ()


Apply = Callable[[Message, Context], tuple[Sending, ...]]


@dataclass(frozen=True)
class Fault:
    """One kind of fault. Rates are shares of all messages; ``lasts`` is for how many messages in a row it stays."""

    name: str
    becomes: str
    default: float
    heavy: float
    apply: Apply
    lasts: int = 1


class FaultError(ValueError):
    """A fault that is not known, or a rate that is none."""


def clean(message: Message, checked: bool = False) -> Sending:
    """A message as it should be. ``checked``: it is held against the contract first (ContractError)."""
    value = contract.encode(message) if checked else orjson.dumps(message)
    return Sending(value, message["message_id"], message["observed_at"], len(message["observations"]))


def rates(preset: str = "default", changes: Mapping[str, float] | None = None) -> dict[str, float]:
    """Rates by fault name: a preset (none, default, heavy) and what is changed of it. Raises FaultError."""
    presets = {
        "none": {fault.name: 0.0 for fault in FAULTS},
        "default": {fault.name: fault.default for fault in FAULTS},
        "heavy": {fault.name: fault.heavy for fault in FAULTS},
    }
    if preset not in presets:
        raise FaultError(f"unknown preset of faults {preset!r}; known: {', '.join(presets)}")
    chosen = presets[preset]
    for name, rate in (changes or {}).items():
        if name not in chosen:
            raise FaultError(f"unknown fault {name!r}; known: {', '.join(chosen)}")
        if not 0 <= rate <= 1:
            raise FaultError(f"the rate of {name} must lie between 0 and 1, not {rate:g}")
        chosen[name] = rate
    if sum(chosen.values()) > 1 + 1e-9:
        raise FaultError(f"the rates of all faults add up to {sum(chosen.values()):g}; a message has at most one fault")
    return chosen


def parse_change(text: str) -> tuple[str, float]:
    """``NAME=RATE`` as name and rate. Raises FaultError."""
    name, _, rate = text.partition("=")
    try:
        return name.strip(), float(rate)
    except ValueError as error:
        raise FaultError(f"a fault is given as NAME=RATE, such as late=0.01, not {text!r}") from error


def _quarantined(message: Message, constraint: str, count: int, value: bytes | None = None) -> tuple[Sending, ...]:
    return (
        Sending(
            orjson.dumps(message) if value is None else value,
            message["message_id"],
            message["observed_at"],
            len(message["observations"]),
            quarantined={constraint: count},
        ),
    )


def _dead(message: Message, reason: str, value: bytes | None) -> tuple[Sending, ...]:
    return (Sending(value, message["message_id"], message["observed_at"], 0, expect=f"dead_letter:{reason}"),)


# Which signals one sensor carries: electrodes, oximeter, cuff, thermometer (indices into the observations).
_SENSORS = ((0, 1), (2,), (3, 4), (5,))
_NO_READING = (-100, 8388607)


def _lead_off(message: Message, context: Context) -> tuple[Sending, ...]:
    sensor = context.random.choice(_SENSORS)
    for index in sensor:
        observation = message["observations"][index]
        # 0 Cel is out of range, not a sentinel; of the other signals it says: no reading.
        choices = _NO_READING if observation["unit"] == "Cel" else (0, *_NO_READING)
        observation["value"] = context.random.choice(choices)
    message["device_status"]["lead_off"] = True
    return _quarantined(message, "sensor_disconnected", len(sensor))


def _dropout(message: Message, context: Context) -> tuple[Sending, ...]:  # noqa: ARG001 - one shape for all faults
    return ()


def _delayed(message: Message, delay: float) -> tuple[Sending, ...]:
    sending = clean(message)
    return (Sending(sending.value, sending.message_id, sending.observed_at, sending.observations, delay=delay),)


_LOW_BATTERY = 5
"""Percent; a battery that nobody has charged ends at 20 otherwise."""


def _low_battery(message: Message, context: Context) -> tuple[Sending, ...]:  # noqa: ARG001
    message["device_status"]["battery"] = _LOW_BATTERY
    return (clean(message),)


def _flat_line(message: Message, context: Context) -> tuple[Sending, ...]:
    message["observations"][0]["value"] = context.at_onset[0]
    return (clean(message),)


def _duplicate(message: Message, context: Context) -> tuple[Sending, ...]:
    first = clean(message)
    again = Sending(
        first.value,
        first.message_id,
        first.observed_at,
        first.observations,
        expect=DUPLICATE,
        delay=context.random.uniform(0, 5),
        refers_to=first.message_id,
    )
    return first, again


def _out_of_order(message: Message, context: Context) -> tuple[Sending, ...]:
    return _delayed(message, context.random.uniform(1.2, 3.0) * context.cadence)


def _late(message: Message, context: Context) -> tuple[Sending, ...]:
    return _delayed(message, context.random.uniform(20, 120) * max(1.0, context.cadence))


def _clock_ahead(message: Message, context: Context) -> tuple[Sending, ...]:
    # Late by as much as a run may be behind, it must still be ahead of us: far more than the five minutes allowed.
    _move(message, "observed_at", timedelta(minutes=context.random.randint(60, 720)))
    return _quarantined(message, "clock_ahead", len(message["observations"]))


def _move(message: Message, name: str, by: timedelta) -> None:
    moved = datetime.fromisoformat(message["observed_at"]) + by
    message[name] = moved.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_RATE_TEXTS = ("bpm", "beats/minute", "{beats}/min", "MDC_DIM_BEAT_PER_MIN")
_BREATH_TEXTS = ("insp/min", "breaths/minute", "MDC_DIM_RESP_PER_MIN")
_FAHRENHEIT_TEXTS = ("degF", "[degF]", "?F", "MDC_DIM_FAHR")


def _convertible_unit(message: Message, context: Context) -> tuple[Sending, ...]:
    heart_rate, breathing, _, systolic, diastolic, temperature = message["observations"]
    heart_rate["unit"] = context.random.choice(_RATE_TEXTS)
    breathing["unit"] = context.random.choice(_BREATH_TEXTS)
    temperature["unit"] = context.random.choice(_FAHRENHEIT_TEXTS)
    temperature["value"] = round(temperature["value"] * 1.8 + 32, 2)
    for pressure in (systolic, diastolic):
        pressure["unit"] = "kPa"
        pressure["value"] = round(pressure["value"] / 7.500616827, 3)
    return (clean(message),)


def _any_observation(message: Message, context: Context) -> dict[str, Any]:
    chosen: dict[str, Any] = context.random.choice(message["observations"])
    return chosen


def _wrong_unit(message: Message, context: Context) -> tuple[Sending, ...]:
    observation = _any_observation(message, context)
    observation["unit"] = "mm[Hg]" if observation["unit"] != "mm[Hg]" else "Cel"
    return _quarantined(message, "unknown_unit", 1)


def _unknown_unit(message: Message, context: Context) -> tuple[Sending, ...]:
    observation = _any_observation(message, context)
    if context.random.random() < 0.5:
        observation["unit"] = "furlong"
    else:
        del observation["unit"]
    return _quarantined(message, "unknown_unit", 1)


def _unknown_code(message: Message, context: Context) -> tuple[Sending, ...]:
    _any_observation(message, context)["code"] = "99999-9"
    return _quarantined(message, "unknown_code", 1)


def _unknown_status(message: Message, context: Context) -> tuple[Sending, ...]:  # noqa: ARG001
    message["status"] = "guessed"
    return _quarantined(message, "unknown_status", len(message["observations"]))


def _missing_value(message: Message, context: Context) -> tuple[Sending, ...]:
    del _any_observation(message, context)["value"]
    return _quarantined(message, "missing_value", 1)


def _unknown_value_code(message: Message, context: Context) -> tuple[Sending, ...]:
    observation = _any_observation(message, context)
    del observation["value"]
    observation["value_code"] = "A"
    return _quarantined(message, "unknown_value_code", 1)


def _ambiguous_repeat(message: Message, context: Context) -> tuple[Sending, ...]:
    observation = _any_observation(message, context)
    message["observations"].append({**observation, "value": round(observation["value"] - 1, 1)})
    return _quarantined(message, "ambiguous_repeat", 2)


# Beyond what is plausible for the signal and none of the sentinels, in the order of the observations.
_IMPLAUSIBLE = (950, 120, 140, 11647, 900, 71.5)


def _implausible(message: Message, context: Context) -> tuple[Sending, ...]:
    index = context.random.randrange(len(_IMPLAUSIBLE))
    message["observations"][index]["value"] = _IMPLAUSIBLE[index]
    return _quarantined(message, "out_of_range", 1)


_NOT_FINITE = (b"NaN", b"Infinity", b"-Infinity", b"1e400")
_PLACEHOLDER = -987654.25


def _not_finite(message: Message, context: Context) -> tuple[Sending, ...]:
    _any_observation(message, context)["value"] = _PLACEHOLDER
    token = context.random.choice(_NOT_FINITE)
    value = orjson.dumps(message).replace(orjson.dumps(_PLACEHOLDER), token, 1)
    return _quarantined(message, "not_finite", 1, value)


def _malformed_json(message: Message, context: Context) -> tuple[Sending, ...]:
    sound, broken = context.random.choice(((b'"observations":', b'"observations"'), (b'","source"', b',"source"')))
    return _dead(message, "malformed_json", orjson.dumps(message).replace(sound, broken, 1))


def _truncated(message: Message, context: Context) -> tuple[Sending, ...]:
    value = orjson.dumps(message)
    return _dead(message, "malformed_json", value[: context.random.randrange(1, len(value) - 1)])


def _not_utf8(message: Message, context: Context) -> tuple[Sending, ...]:  # noqa: ARG001
    value = orjson.dumps(message).replace(b'"source":"', b'"source":"\xff\xfe', 1)
    return _dead(message, "not_utf8", value)


def _tombstone(message: Message, context: Context) -> tuple[Sending, ...]:  # noqa: ARG001
    return _dead(message, "tombstone", None)


def _empty(message: Message, context: Context) -> tuple[Sending, ...]:  # noqa: ARG001
    return _dead(message, "empty", b"")


_PADDING = "x" * (1024 * 1024)


def _oversized(message: Message, context: Context) -> tuple[Sending, ...]:  # noqa: ARG001
    message["location"] = {**message["location"], "bed": _PADDING}
    return _dead(message, "oversized", orjson.dumps(message))


def _wrong_type(message: Message, context: Context) -> tuple[Sending, ...]:
    kind = context.random.randrange(3)
    if kind == 0:
        _any_observation(message, context)["value"] = "eighty"
    elif kind == 1:
        message["observations"] = "none"
    else:
        message["location"] = "bedside"
    return _dead(message, "wrong_type", orjson.dumps(message))


_REQUIRED = ("message_id", "patient_id", "device_id", "source", "observed_at", "observations")


def _missing_field(message: Message, context: Context) -> tuple[Sending, ...]:
    gone = context.random.choice(_REQUIRED)
    value = orjson.dumps({name: part for name, part in message.items() if name != gone})
    return _dead(message, "missing_field", value)


def _bad_timestamp(message: Message, context: Context) -> tuple[Sending, ...]:
    wrong = context.random.choice(("yesterday", "2025-13-45T25:61:00Z", "31.12.2025 08:00"))
    return _dead(message, "bad_timestamp", orjson.dumps({**message, "observed_at": wrong}))


def _unknown_schema_version(message: Message, context: Context) -> tuple[Sending, ...]:  # noqa: ARG001
    return _dead(message, "unknown_schema_version", orjson.dumps({**message, "schema_version": 99}))


def _followed(message: Message, context: Context, status: str, change: float) -> tuple[Sending, ...]:
    """The message, and a second one about one of its values: the same instant, hence the same observation_id."""
    original = clean(message)
    delay = context.random.uniform(5, 30)
    follower = copy.deepcopy(message)
    observation = context.random.choice(follower["observations"])
    observation["value"] = round(observation["value"] + change, 1)
    follower["observations"] = [observation]
    follower["status"] = status
    follower["message_id"] = context.message_id(status)
    _move(follower, "recorded_at", timedelta(seconds=delay))
    later = clean(follower, checked=True)
    return original, Sending(
        later.value, later.message_id, later.observed_at, 1, delay=delay, refers_to=original.message_id
    )


def _correction(message: Message, context: Context) -> tuple[Sending, ...]:
    # Downwards: an SpO2 above 100 would be quarantined.
    return _followed(message, context, "corrected", -1)


def _entered_in_error(message: Message, context: Context) -> tuple[Sending, ...]:
    return _followed(message, context, "entered-in-error", 0)


FAULTS = (
    Fault("lead_off", "quarantine: sensor_disconnected, the signals of one sensor", 2e-3, 2e-2, _lead_off, lasts=10),
    Fault("dropout", "nothing: the patient is silent, and nothing is sent", 2e-3, 2e-2, _dropout, lasts=10),
    Fault("duplicate", "one version; the second record adds nothing", 2e-3, 2e-2, _duplicate),
    Fault("out_of_order", "parsed, after a later value of the same patient", 2e-3, 2e-2, _out_of_order),
    Fault("late", "parsed; the minute it belongs to is derived again", 5e-4, 5e-3, _late),
    Fault("clock_ahead", "quarantine: clock_ahead, all signals", 2e-4, 2e-3, _clock_ahead),
    Fault("convertible_unit", "parsed; values converted to UCUM", 2e-3, 2e-2, _convertible_unit),
    Fault("wrong_unit", "quarantine: unknown_unit, one signal", 5e-4, 5e-3, _wrong_unit),
    Fault("unknown_unit", "quarantine: unknown_unit, one signal", 5e-4, 5e-3, _unknown_unit),
    Fault("unknown_code", "quarantine: unknown_code, one signal", 5e-4, 5e-3, _unknown_code),
    Fault("unknown_status", "quarantine: unknown_status, all signals", 1e-4, 1e-3, _unknown_status),
    Fault("missing_value", "quarantine: missing_value, one signal", 1e-4, 1e-3, _missing_value),
    Fault("unknown_value_code", "quarantine: unknown_value_code, one signal", 1e-4, 1e-3, _unknown_value_code),
    Fault("ambiguous_repeat", "quarantine: ambiguous_repeat, both values", 2e-4, 2e-3, _ambiguous_repeat),
    Fault("implausible", "quarantine: out_of_range, one signal", 5e-4, 5e-3, _implausible),
    Fault("not_finite", "quarantine: not_finite, one signal", 2e-4, 2e-3, _not_finite),
    Fault("malformed_json", "dead letter: malformed_json", 5e-4, 5e-3, _malformed_json),
    Fault("truncated", "dead letter: malformed_json", 5e-4, 5e-3, _truncated),
    Fault("not_utf8", "dead letter: not_utf8", 2e-4, 2e-3, _not_utf8),
    Fault("tombstone", "dead letter: tombstone", 1e-4, 1e-3, _tombstone),
    Fault("empty", "dead letter: empty", 1e-4, 1e-3, _empty),
    # Rare: each is as large as a thousand other messages.
    Fault("oversized", "dead letter: oversized", 1e-5, 1e-4, _oversized),
    Fault("wrong_type", "dead letter: wrong_type", 2e-4, 2e-3, _wrong_type),
    Fault("missing_field", "dead letter: missing_field", 2e-4, 2e-3, _missing_field),
    Fault("bad_timestamp", "dead letter: bad_timestamp", 2e-4, 2e-3, _bad_timestamp),
    Fault("unknown_schema_version", "dead letter: unknown_schema_version", 1e-4, 1e-3, _unknown_schema_version),
    Fault("correction", "parsed; a second version of one value, status corrected", 5e-4, 5e-3, _correction),
    Fault("entered_in_error", "parsed; a second version of one value that withdraws it", 3e-4, 3e-3, _entered_in_error),
    # What only a rule of its own can see, so not by default. Last, so that a seed draws the others as it did before.
    Fault("low_battery", "parsed; the device says that its battery is at 5 %", 0.0, 1e-3, _low_battery, lasts=30),
    Fault("flat_line", "parsed; heart rate repeats one value", 0.0, 1e-3, _flat_line, lasts=60),
)
"""Every fault, in the order in which chance is divided among them."""
