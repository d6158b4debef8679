"""A FHIR resource in one line for a person. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_WHAT = ("code", "medicationCodeableConcept", "serviceType", "appointmentType", "type", "category")
_WHEN = ("onsetDateTime", "start", "authoredOn", "date", "recordedDate")
_STATUS = ("clinicalStatus", "status")


@dataclass(frozen=True)
class Record:
    """Kind (``Condition``), what it is, its status and its time, as the resource says them; None where it does not."""

    kind: str
    what: str | None
    status: str | None
    when: str | None


def record(resource: Mapping[str, Any]) -> Record:
    """The line of one resource."""
    what = next(filter(None, (_words(resource.get(name)) for name in _WHAT)), None)
    return Record(
        str(resource.get("resourceType")),
        _text(resource.get("description")) or what,
        next(filter(None, (_words(resource.get(name)) for name in _STATUS)), None),
        next(filter(None, (_text(resource.get(name)) for name in _WHEN)), None),
    )


def _words(found: object) -> str | None:
    """The words of a code, a CodeableConcept or the first of several."""
    if isinstance(found, list):
        return next(filter(None, map(_words, found)), None)
    if not isinstance(found, Mapping):
        return _text(found)
    codings = found.get("coding")
    named = [one for one in codings if isinstance(one, Mapping)] if isinstance(codings, list) else []
    texts = (found.get("text"), *(one.get("display") for one in named), *(one.get("code") for one in named))
    return next(filter(None, map(_text, texts)), None)


def _text(found: object) -> str | None:
    return found if isinstance(found, str) and found else None
