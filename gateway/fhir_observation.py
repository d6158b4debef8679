"""A FHIR R4 Observation (vital signs) as a device message. Pure.

Grain: one Observation is one message; its value and each of its components is an observation of it. Missing data: a
value that is absent (``dataAbsentReason``) becomes the coded value ``absent:REASON``, which silver quarantines.

Identity: ``record_id`` is the Observation's id, with the code for a component. So a correction (status amended,
corrected or entered-in-error) that keeps id, device and time is a version of the same value. Codes that no signal has,
and units, go as they are: transforms in Spark convert, judge and quarantine.
"""

from datetime import datetime
from typing import Any

from gateway.fhir_error import Resource, refused
from gateway.fhir_time import instant
from gateway.site import LOINC, MDC, Coding, Site, absent, coded, digest, is_no_value, signal_code, unit_text, utc
from lakehouse.message import SCHEMA_VERSION, Message
from lakehouse.tables import STATUSES

_SYSTEMS = {"http://loinc.org": LOINC, "urn:iso:std:iso:11073:10101": MDC}
_UCUM = "http://unitsofmeasure.org"
_CHANGED = ("amended", "corrected", "entered-in-error")
_MOST_TEXT = 64


def is_panel(observation: Resource) -> bool:
    """Whether an Observation only names others (``hasMember``): it measures nothing itself."""
    return bool(observation.get("hasMember")) and not observation.get("component") and not _has_value(observation)


def identity(observation: Resource) -> str:
    """An id for an Observation that has none, from what a correction of it would keep."""
    kept = ("identifier", "code", "subject", "device", "effectiveDateTime", "effectivePeriod", "effectiveInstant")
    return digest(
        [observation["identifier"]]
        if observation.get("identifier")
        else {name: observation.get(name) for name in kept[1:]}
    )


def message(
    observation: Resource, system: str, patient_id: str, encounter_id: str | None, site: Site, now: datetime
) -> Message:
    """The device message of a checked Observation that has an id. Raises FhirError."""
    status = observation["status"]
    if status not in STATUSES:
        raise refused("not-supported", f"status {status}: taken are {', '.join(STATUSES)}", "Observation.status")
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "message_id": f"{system}/Observation/{digest(observation)}"[-128:],
        "patient_id": patient_id,
        "encounter_id": encounter_id,
        "device_id": device(observation.get("device")) or f"{system}/Observation",
        "source": system,
        "observed_at": observed_at(observation, site),
        "recorded_at": _recorded_at(observation, now),
        "status": status,
        "observations": _observations(observation),
    }
    return {name: value for name, value in content.items() if value is not None}


def device(reference: dict[str, Any] | None) -> str | None:
    """The name of a device that a reference gives."""
    if not reference:
        return None
    named = (reference.get("reference") or "").rsplit("/", 1)[-1]
    return named or (reference.get("identifier") or {}).get("value") or reference.get("display")


def observed_at(observation: Resource, site: Site) -> str:
    """When it was measured, RFC 3339 in UTC; of a period its start, which a correction keeps. Raises FhirError."""
    given = {
        "effectiveDateTime": observation.get("effectiveDateTime"),
        "effectiveInstant": observation.get("effectiveInstant"),
        "effectivePeriod.start": (observation.get("effectivePeriod") or {}).get("start"),
        "issued": observation.get("issued"),
    }
    for name, text in given.items():
        if text:
            return utc(instant(text, site, f"Observation.{name}"))
    raise refused("required", "there is no effective time, and no issued", "Observation.effective")


def _recorded_at(observation: Resource, now: datetime) -> str | None:
    """When this version became known; of a change that does not say so, now: it must not sort before the first.

    None leaves it to silver, which then takes observed_at.
    """
    known = observation.get("issued") or (observation.get("meta") or {}).get("lastUpdated")
    if known:
        return utc(instant(known, Site(), "Observation.issued"))
    return utc(now) if observation["status"] in _CHANGED else None


def _observations(observation: Resource) -> list[dict[str, Any]]:
    components = observation.get("component") or []
    withdrawn = observation["status"] == "entered-in-error"
    found = []
    if _has_value(observation) or not components:
        found.append(_reading(observation, observation["id"], "Observation", withdrawn))
    for number, component in enumerate(components):
        code = _code(component, f"Observation.component[{number}]")[0]
        found.append(_reading(component, f"{observation['id']}/{code}", f"Observation.component[{number}]", withdrawn))
    return found


def _reading(part: dict[str, Any], record_id: str, path: str, withdrawn: bool) -> dict[str, Any]:
    code, source_code = _code(part, path)
    reading = {"code": code, **_value(part, code, path), "source_code": source_code, "record_id": record_id}
    if withdrawn and is_no_value(reading.get("value_code")):
        # Without it silver would quarantine the withdrawal, and what it withdraws would go on counting.
        raise refused("required", "what is entered in error keeps its value: it says what is withdrawn", path)
    return {name: value for name, value in reading.items() if value is not None}


def _code(part: dict[str, Any], path: str) -> tuple[str, str | None]:
    concept = part["code"]
    codings = [
        Coding(c.get("code") or "", _SYSTEMS.get(c.get("system") or "", "")) for c in concept.get("coding") or []
    ]
    try:
        return signal_code([*codings, Coding((concept.get("text") or "")[:_MOST_TEXT], "")])
    except ValueError as error:
        raise refused("required", str(error), f"{path}.code") from error


def _has_value(part: dict[str, Any]) -> bool:
    return "dataAbsentReason" in part or any(name.startswith("value") for name in part)


def _value(part: dict[str, Any], code: str, path: str) -> dict[str, Any]:
    name = next((name for name in part if name.startswith("value")), None)
    if name is None or (name == "valueQuantity" and part[name].get("value") is None):
        return {"value_code": absent(_absence(part.get("dataAbsentReason")))}
    value = part[name]
    if name == "valueQuantity":
        return _quantity(value)
    if name == "valueInteger":
        return {"value": value}
    if name == "valueCodeableConcept":
        codings = value.get("coding") or []
        texts = (*(c.get("code") or "" for c in codings), *(c.get("display") or "" for c in codings))
        return {"value_code": coded(code, (*texts, value.get("text") or ""))}
    if name in ("valueString", "valueDateTime", "valueTime", "valueBoolean"):
        return {"value_code": coded(code, [str(value).lower() if isinstance(value, bool) else str(value)])}
    raise refused("not-supported", f"{name} is not taken: a quantity, a code or a text is", f"{path}.{name}")


def _quantity(quantity: dict[str, Any]) -> dict[str, Any]:
    text, code = quantity.get("unit") or "", quantity.get("code") or ""
    if comparator := quantity.get("comparator"):
        return {"value_code": f"{comparator}{quantity['value']} {code or text}".strip()[:_MOST_TEXT]}
    unit = unit_text([code, text] if quantity.get("system") == _UCUM else [text, code])
    return {"value": float(quantity["value"]), "unit": unit, "source_unit": text if text != unit and text else None}


def _absence(concept: dict[str, Any] | None) -> str:
    codings = (concept or {}).get("coding") or []
    return next((c["code"] for c in codings if c.get("code")), (concept or {}).get("text") or "unknown")
