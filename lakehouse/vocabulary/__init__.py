"""Codes, units and ranges, read from the reviewable CSV files beside this module: the one place that reads them.

Signals are LOINC codes (one of our own where LOINC has none) with a UCUM unit and the plausible range that is kept;
unit texts map to a UCUM unit by ``value * scale + offset``; codes of monitors (MDC) map to LOINC; sources say whether
their clock may be compared with ours.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import isfinite

NO_VALUE_SENTINELS = (-1.0, -99.9, -100.0, -999.0, 8388607.0)
"""What monitors send for "no value" in any signal; 0 counts too where ``Signal.zero_is_no_value`` says so."""

CONSCIOUSNESS = ("A", "C", "V", "P", "U")
"""ACVPU: alert, new confusion, voice, pain, unresponsive (RCP, NEWS2, 2017)."""


@dataclass(frozen=True)
class Signal:
    """A kind of observation: code, UCUM unit, and the open or closed bounds of what is plausible."""

    code: str
    name: str
    display: str
    unit: str | None
    coded: bool
    above: float | None
    at_least: float | None
    below: float | None
    at_most: float | None
    zero_is_no_value: bool


@dataclass(frozen=True)
class Unit:
    """A unit text (lower case) as devices write it, and its conversion: ``value * scale + offset`` in ``unit``."""

    text: str
    unit: str
    scale: float
    offset: float


@dataclass(frozen=True)
class Source:
    """A named origin of messages. A ``shifted`` clock (de-identified data) is never compared with received_at."""

    name: str
    shifted: bool


def rows(file_name: str) -> Iterator[dict[str, str]]:
    """The rows of one vocabulary file as dictionaries."""
    text = resources.files(__package__ or __name__).joinpath(file_name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


def _number(text: str) -> float | None:
    return float(text) if text else None


@cache
def signals() -> tuple[Signal, ...]:
    """Every signal the lakehouse knows, in file order."""
    return tuple(
        Signal(
            code=row["code"],
            name=row["name"],
            display=row["display"],
            unit=row["unit"] or None,
            coded=row["kind"] == "coded",
            above=_number(row["above"]),
            at_least=_number(row["at_least"]),
            below=_number(row["below"]),
            at_most=_number(row["at_most"]),
            zero_is_no_value=row["zero_is_no_value"] == "true",
        )
        for row in rows("signal.csv")
    )


@cache
def signal_by_name() -> dict[str, Signal]:
    """Signals by their short name, ``heart_rate``."""
    return {signal.name: signal for signal in signals()}


@cache
def signal_by_code() -> dict[str, Signal]:
    """Signals by code."""
    return {signal.code: signal for signal in signals()}


def plausible(signal: Signal, value: float) -> bool:
    """Whether a value of this signal, in its unit, may be true. No monitor's "no value" is."""
    return not (
        (signal.above is not None and value <= signal.above)
        or (signal.at_least is not None and value < signal.at_least)
        or (signal.below is not None and value >= signal.below)
        or (signal.at_most is not None and value > signal.at_most)
    )


@cache
def units() -> tuple[Unit, ...]:
    """Every unit text the lakehouse accepts."""
    return tuple(Unit(r["text"], r["unit"], float(r["scale"]), float(r["offset"])) for r in rows("unit.csv"))


@cache
def unit_by_text() -> dict[str, Unit]:
    """Unit texts by how they are written, in lower case."""
    return {unit.text: unit for unit in units()}


def converted(value: float | None, text: str | None) -> tuple[float | None, str | None]:
    """A value in its UCUM unit, and that unit; None for an unknown one.

    What lakehouse.transforms.observation does in SQL: converted values keep two decimals.
    """
    unit = unit_by_text().get((text or "").strip().lower())
    if unit is None:
        return value, None
    if value is None or not isfinite(value) or (unit.scale, unit.offset) == (1.0, 0.0):
        return value, unit.unit
    return round(value * unit.scale + unit.offset, 2), unit.unit


@cache
def loinc_by_mdc() -> dict[str, str]:
    """LOINC codes by what ISO/IEEE 11073-10101 calls the signal: its number (``147842``) and its reference id."""
    found = list(rows("mdc_code.csv"))
    return {row[name]: row["loinc"] for name in ("code", "reference") for row in found}


@cache
def consciousness_by_text() -> dict[str, str]:
    """One of :data:`CONSCIOUSNESS` by what the sources call it, in lower case."""
    return {row["text"]: row["code"] for row in rows("consciousness.csv")}


@cache
def sources() -> tuple[Source, ...]:
    """The sources whose clock needs saying; any other source is a live device."""
    return tuple(Source(row["source"], row["clock"] == "shifted") for row in rows("source.csv"))
