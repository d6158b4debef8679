"""HL7 v2 messages as records for Kafka: values of OBX, and of ADT the Patient and the Encounter. Pure.

Grain: the OBX of one message that share an instant, a status and a device are one device message. Missing data: an OBX
whose status says that there is no result, or that has no value, is the coded value ``absent:STATUS``, which silver
quarantines. An OBX with neither type nor value tells how a device is built (IHE PCD) and is nothing.

Identity: ``message_id`` is made of sender, MSH-10 and the message's number within it, so that a message that is sent
again counts once. ``record_id`` is OBX-21, else order, code and OBX-4, so that a correction (OBX-11) is a version of
the same value.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from gateway.hl7v2 import Message, RejectedError, Segment, instant
from gateway.ingest import Record, of_message, of_resource
from gateway.site import (
    LOINC,
    MDC,
    Coding,
    Site,
    absent,
    coded,
    digest,
    fhir_id,
    is_no_value,
    named,
    signal_code,
    unit_text,
    utc,
)
from lakehouse.message import SCHEMA_VERSION, ContractError
from lakehouse.transforms.message import MAX_OBSERVATIONS
from lakehouse.vocabulary import signal_by_code

_STATUS = {
    **dict.fromkeys(("", "F", "U", "V"), "final"),
    **dict.fromkeys(("P", "R", "S"), "preliminary"),
    **dict.fromkeys(("C",), "corrected"),
    **dict.fromkeys(("A", "B"), "amended"),
    **dict.fromkeys(("D", "W"), "entered-in-error"),
}
"""OBX-11 (HL7 table 0085) as a status of FHIR. D and W withdraw; V is verified, R entered and not verified."""

_NO_RESULT = ("I", "N", "O", "X")  # pending, not asked, ordered only, cannot be obtained
_SYSTEMS = {"LN": LOINC, "MDC": MDC}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_CODED = ("CE", "CWE", "CNE", "CF", "IS", "ID")
_MOST_TEXT = 64
_CLASS = {"I": "IMP", "O": "AMB", "E": "EMER", "P": "PRENC"}
_SEX = {"M": "male", "F": "female", "O": "other", "A": "other"}
_EXPIRED = ("20", "40", "41", "42")
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_DISPOSITION = "http://terminology.hl7.org/CodeSystem/discharge-disposition"


@dataclass(frozen=True)
class _Sender:
    """Who a message is about, and from where."""

    message: Message
    zone: tzinfo | None
    source: str
    system: str
    patient: str
    visit: str | None

    @property
    def patient_id(self) -> str:
        return f"{self.system}/{self.patient}"

    def time(self, segment: Segment, field: int) -> datetime | None:
        """A time, None where it is empty. Raises RejectedError."""
        text = segment.text(field)
        try:
            return instant(text, self.zone) if text else None
        except ValueError as error:
            raise RejectedError("AE", f"{segment.name}-{field}: {error}") from error


def records(message: Message, site: Site, now: datetime) -> list[Record]:
    """What a message is to Kafka: resources first, so that who is measured is known. Raises RejectedError."""
    sender = _sender(message, site)
    try:
        found = [of_resource(one) for one in _resources(sender)] if message.header.kind == "ADT" else []
        found += [of_message(one) for one in _messages(sender, now)]
    except ContractError as error:
        raise RejectedError("AE", str(error)) from error
    if not found:
        raise RejectedError("AE", "no OBX holds a value")
    return found


def _sender(message: Message, site: Site) -> _Sender:
    pid = message.first("PID")
    if pid is None:
        raise RejectedError("AE", "there is no segment PID")
    repeats = [number for number in pid.repeats(3) if pid.text(3, repeat=number)]
    if not repeats:
        raise RejectedError("AE", "PID-3, the patient's identifier, is empty")
    repeat = next((number for number in repeats if pid.text(3, 5, repeat=number) == "MR"), repeats[0])
    header = message.segments[0]
    source = named(header.text(4) or header.text(3) or "hl7")
    visit = message.first("PV1")
    number = visit.text(19) if visit else ""
    return _Sender(
        message=message,
        zone=message.zone or site.zone,
        source=source[:_MOST_TEXT],
        system=named(site.system or pid.text(3, 4, repeat=repeat) or source),
        patient=fhir_id(pid.text(3, repeat=repeat)),
        visit=fhir_id(number) if number else None,
    )


def _messages(sender: _Sender, now: datetime) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    order: Segment | None = None
    for segment in sender.message.segments:
        if segment.name == "OBR":
            order = segment
        if segment.name == "OBX" and _says_something(segment):
            key = (_observed_at(sender, segment, order), _status(segment), _device(sender, segment))
            groups.setdefault(key, []).extend(_readings(segment, order))
    number = 0
    for key, observations in groups.items():
        for start in range(0, len(observations), MAX_OBSERVATIONS):
            yield _device_message(sender, number, key, observations[start : start + MAX_OBSERVATIONS], now)
            number += 1


def _says_something(obx: Segment) -> bool:
    """Whether an OBX is a result: not how a device is built (no type, no value), nor an empty line of a report."""
    has_value = any(_texts(obx, repeat) for repeat in obx.repeats(5))
    return has_value or bool(obx.text(2) and (obx.text(3) or obx.text(3, 2)))


def _device_message(
    sender: _Sender, number: int, key: tuple[str, str, str], observations: list[dict[str, Any]], now: datetime
) -> dict[str, Any]:
    observed_at, status, device = key
    content = {
        "schema_version": SCHEMA_VERSION,
        "message_id": _message_id(sender, number),
        "patient_id": sender.patient_id,
        "encounter_id": f"{sender.system}/{sender.visit}" if sender.visit else None,
        "device_id": device,
        "source": sender.source,
        "location": _location(sender.message.first("PV1")),
        "observed_at": observed_at,
        "recorded_at": _recorded_at(sender, status, now),
        "status": status,
        "observations": observations,
    }
    return {name: value for name, value in content.items() if value}


def _message_id(sender: _Sender, number: int) -> str:
    header = sender.message.header
    name = f"{header.application}/{header.facility}/{header.control_id}"
    return f"hl7/{digest(name) if len(name) > 100 else name}/{number}"


def _recorded_at(sender: _Sender, status: str, now: datetime) -> str | None:
    """When this version became known: when the message was made. A change must not sort before what it changes."""
    header = sender.message.segments[0]
    if header.text(7):
        moment = sender.time(header, 7)
        return utc(moment) if moment else None
    return utc(now) if status not in ("final", "preliminary") else None


def _status(obx: Segment) -> str:
    status = obx.text(11)
    if status in _NO_RESULT:
        return "final"
    if status not in _STATUS:
        raise RejectedError("AE", f"OBX-11, the status, is {status}: one of HL7 table 0085 is needed")
    return _STATUS[status]


def _device(sender: _Sender, obx: Segment) -> str:
    return obx.text(18) or named(sender.message.segments[0].text(3)) or sender.source


def _observed_at(sender: _Sender, obx: Segment, order: Segment | None) -> str:
    moment = sender.time(obx, 14) or (sender.time(order, 7) if order else None)
    if moment is None and (_is_absent(obx) or _code(obx)[0] not in signal_by_code()):
        # It is quarantined anyway, as no value or none of ours: the order's or the message's own time will do.
        moment = (sender.time(order, 22) if order else None) or sender.time(sender.message.segments[0], 7)
    if moment is None:
        raise RejectedError("AE", f"OBX {obx.text(1)} has no time: neither OBX-14 nor OBR-7")
    return utc(moment)


def _is_absent(obx: Segment) -> bool:
    return obx.text(11) in _NO_RESULT or not any(_texts(obx, repeat) for repeat in obx.repeats(5))


def _texts(obx: Segment, repeat: int) -> list[str]:
    return [text for component in range(1, 7) if (text := obx.text(5, component, repeat=repeat))]


def _readings(obx: Segment, order: Segment | None) -> Iterator[dict[str, Any]]:
    code, source_code = _code(obx)
    for value in _values(obx, code):
        if obx.text(11) in ("D", "W") and is_no_value(value.get("value_code")):
            # Without it silver would quarantine the withdrawal, and what it withdraws would go on counting.
            raise RejectedError("AE", f"OBX {obx.text(1)} withdraws a value (OBX-11) that OBX-5 does not name")
        reading = {"code": code, **value, "source_code": source_code, "record_id": _record_id(obx, order, code)}
        yield {name: item for name, item in reading.items() if item is not None}


def _code(obx: Segment) -> tuple[str, str | None]:
    """The code of OBX-3, and the sender's own where that is another; ``none`` where it is empty."""
    codings = [
        Coding(obx.text(3, 1)[:_MOST_TEXT], _SYSTEMS.get(obx.text(3, 3), "")),
        # Beside a number MDC gives its reference id as the text.
        Coding(obx.text(3, 2)[:_MOST_TEXT], MDC if obx.text(3, 3) == "MDC" else ""),
        Coding(obx.text(3, 4)[:_MOST_TEXT], _SYSTEMS.get(obx.text(3, 6), "")),
    ]
    return signal_code(codings) if any(coding.code for coding in codings) else ("none", None)


def _record_id(obx: Segment, order: Segment | None, code: str) -> str | None:
    if instance := obx.text(21):
        return instance[:256]
    number = (order.text(3) or order.text(2)) if order else ""
    return f"{number}/{code}/{obx.text(4)}"[:256] if number or obx.text(4) else None


def _values(obx: Segment, code: str) -> Iterator[dict[str, Any]]:
    if _is_absent(obx):
        yield {"value_code": absent(obx.text(11) if obx.text(11) in _NO_RESULT else "unknown")}
        return
    unit = unit_text(obx.text(6, component) for component in (1, 2, 4, 5))
    for repeat in obx.repeats(5):
        if texts := _texts(obx, repeat):
            yield _value(obx.text(2), code, texts, obx.text(5, repeat=repeat), unit)


def _value(kind: str, code: str, texts: list[str], first: str, unit: str | None) -> dict[str, Any]:
    """One value by OBX-2: a number, a number behind ``=`` (SN), a code, or of a text its beginning."""
    number = texts[1] if kind == "SN" and first == "=" and len(texts) > 1 else first
    if kind == "SN" and not first and len(texts) == 1:
        number = texts[0]
    if kind not in _CODED and _NUMBER.fullmatch(number):
        return {"value": float(number), "unit": unit[:_MOST_TEXT] if unit else None}
    return {"value_code": "".join(texts)[:_MOST_TEXT] if kind == "SN" else coded(code, texts)}


def _location(visit: Segment | None) -> dict[str, str] | None:
    if visit is None:
        return None
    place = {"unit": visit.text(3, 1)[:128], "bed": (visit.text(3, 3) or visit.text(3, 2))[:128]}
    return {name: text for name, text in place.items() if text}


def _resources(sender: _Sender) -> Iterator[dict[str, Any]]:
    event, header = sender.message.first("EVN"), sender.message.segments[0]
    known = (sender.time(event, 2) if event else None) or sender.time(header, 7)
    envelope: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "patient_id": sender.patient_id}
    envelope |= {"source": sender.source} | ({"recorded_at": utc(known)} if known else {})
    yield envelope | {"resource": _patient(sender)}
    if visit := sender.message.first("PV1"):
        yield envelope | {"resource": _encounter(sender, visit, known)}


def _patient(sender: _Sender) -> dict[str, Any]:
    pid = sender.message.first("PID")
    assert pid is not None  # noqa: S101 - looked for in _sender
    death = sender.time(pid, 29)
    resource = {
        "resourceType": "Patient",
        "id": sender.patient,
        "identifier": [_identifier(pid, repeat) for repeat in pid.repeats(3) if pid.text(3, repeat=repeat)],
        "name": [name for repeat in pid.repeats(5) if (name := _name(pid, repeat))],
        "gender": _SEX.get(pid.text(8), "unknown"),
        "birthDate": _date(pid.text(7)),
        "deceasedDateTime": utc(death) if death else None,
        "deceasedBoolean": True if pid.text(30) == "Y" and not death else None,
    }
    return {name: value for name, value in resource.items() if value}


def _identifier(pid: Segment, repeat: int) -> dict[str, Any]:
    kind, assigner = pid.text(3, 5, repeat=repeat), pid.text(3, 4, repeat=repeat)
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": kind}
    return {
        "value": pid.text(3, repeat=repeat),
        **({"type": {"coding": [coding]}} if kind else {}),
        **({"assigner": {"display": assigner}} if assigner else {}),
    }


def _name(pid: Segment, repeat: int) -> dict[str, Any]:
    family = pid.text(5, 1, repeat=repeat)
    given = [text for component in (2, 3) if (text := pid.text(5, component, repeat=repeat))]
    return {**({"family": family} if family else {}), **({"given": given} if given else {})}


def _date(text: str) -> str | None:
    """A date of birth to the day, month or year that is known, without its time."""
    digits = re.match(r"\d{4}(\d{2})?(\d{2})?", text)
    if digits is None:
        return None
    return "-".join(part for part in (text[:4], digits[1], digits[2]) if part)


def _encounter(sender: _Sender, visit: Segment, known: datetime | None) -> dict[str, Any]:
    if sender.visit is None:
        raise RejectedError("AE", "PV1-19, the visit number, is empty: nothing else names the encounter")
    start, end = sender.time(visit, 44), sender.time(visit, 45)
    ended = end or (known if sender.message.header.event == "A03" else None)
    period = {name: utc(moment) for name, moment in (("start", start), ("end", ended)) if moment}
    place = ", ".join(text for component in (1, 2, 3) if (text := visit.text(3, component)))
    kind = _CLASS.get(visit.text(2))
    resource: dict[str, Any] = {
        "resourceType": "Encounter",
        "id": sender.visit,
        "status": "finished" if ended else "planned" if kind == "PRENC" else "in-progress",
        "class": {"system": _ACT_CODE, "code": kind} if kind else None,
        "type": [{"text": visit.text(4)}] if visit.text(4) else None,
        "subject": {"reference": f"Patient/{sender.patient}"},
        "period": period,
        "location": [{"location": {"display": place}}] if place else None,
        "hospitalization": _hospitalization(visit),
    }
    return {name: value for name, value in resource.items() if value}


def _hospitalization(visit: Segment) -> dict[str, Any]:
    source, disposition = visit.text(14), visit.text(36, 2) or visit.text(36)
    coding = {"coding": [{"system": _DISPOSITION, "code": "exp"}]} if visit.text(36) in _EXPIRED else {}
    return {
        **({"admitSource": {"text": source}} if source else {}),
        **({"dischargeDisposition": {"text": disposition, **coding}} if disposition else {}),
    }
