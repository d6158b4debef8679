"""What FHIR and HL7 v2 have in common on their way to a device message: names, codes, instants of a site. Pure."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import orjson

from lakehouse.correction import NO_VALUE
from lakehouse.sources.instants import rfc3339
from lakehouse.vocabulary import consciousness_by_text, loinc_by_mdc, signal_by_code, signals, unit_by_text

LOINC, MDC = "loinc", "mdc"

_FHIR_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_MOST_TEXT = 64  # what the contract takes as a coded value


@dataclass(frozen=True)
class Site:
    """What a site says of its senders.

    ``system`` is the first half of every patient id (``system/value``); where it is None the message names it. ``zone``
    is that of times that say none; where it is None such a time is refused, since a guess may be hours wrong.
    """

    system: str | None = None
    zone: tzinfo | None = None


@dataclass(frozen=True)
class Coding:
    """A code as a sender gives it; ``system`` is LOINC, MDC or whatever else."""

    code: str
    system: str


class NoZoneError(ValueError):
    """A time does not say its offset, and the site names no zone."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"the time {text} has no offset from UTC: send one, or start the gateway with --zone, such as Europe/Berlin"
        )


def fhir_id(text: str) -> str:
    """A FHIR id for a sender's identifier: itself, or its hash where it has letters that an id may not have."""
    return text if _FHIR_ID.fullmatch(text) else digest(text)


def digest(content: Any) -> str:
    """32 hexadecimal digits that stand for a JSON value, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def named(text: str) -> str:
    """A name of a system as the first half of a patient id, where a slash would end it."""
    return text.replace("/", "-")


def signal_code(codings: Iterable[Coding]) -> tuple[str, str | None]:
    """The code of a measured value, and the sender's own where that is another.

    Of several codes of the vocabulary the one that it names first counts: pulse oximetry before arterial saturation.
    Where none is known it is the sender's first LOINC code, else its first: silver quarantines it as unknown. Raises
    ValueError where there is no code.
    """
    given = [coding for coding in codings if coding.code]
    if not given:
        raise ValueError("there is no code")
    known = {_known(coding): coding.code for coding in reversed(given)}
    for signal in signals():
        if signal.code in known:
            return signal.code, _other(known[signal.code], signal.code)
    first = next((coding for coding in given if coding.system == LOINC), given[0])
    return first.code, None


def _known(coding: Coding) -> str:
    return loinc_by_mdc().get(coding.code, "") if coding.system == MDC else coding.code


def _other(sent: str, code: str) -> str | None:
    return sent if sent != code else None


def unit_text(candidates: Iterable[str]) -> str | None:
    """The first of a sender's texts for a unit that the vocabulary knows, else the first; None where there is none."""
    given = [text for text in candidates if text]
    return next((text for text in given if text.strip().lower() in unit_by_text()), given[0] if given else None)


def coded(code: str, texts: Iterable[str]) -> str:
    """A coded value as the contract takes it: ACVPU by its letter, anything else by its first text."""
    given = [text.strip() for text in texts if text.strip()]
    signal = signal_by_code().get(code)
    if signal is not None and signal.coded:
        for text in given:
            if letter := consciousness_by_text().get(text.lower()):
                return letter
    return given[0][:_MOST_TEXT] if given else absent("unknown")


def absent(reason: str) -> str:
    """The coded value of a signal that was not measured: silver quarantines it, since no signal has such a value.

    An alert rule sees that the signal gives no value; nothing is made up.
    """
    return f"absent:{reason}"[:_MOST_TEXT]


def is_no_value(value_code: str | None) -> bool:
    """Whether a coded value is :func:`absent`, or what withdraws no value."""
    return value_code is not None and (value_code == NO_VALUE or value_code.startswith("absent:"))


def utc(moment: datetime) -> str:
    """An aware instant as messages have it."""
    return rfc3339(moment.astimezone(UTC))
