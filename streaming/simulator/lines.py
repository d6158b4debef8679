"""The lines of the truth, as dictionaries: what was sent, what was not, and what was going on."""

from datetime import datetime
from typing import Any

import numpy as np

from lakehouse.message import Message
from lakehouse.topics import CLINICAL_RESOURCE, VITALS
from streaming.simulator.cohort import Patient
from streaming.simulator.episodes import Episode
from streaming.simulator.faults import Fault, Sending
from streaming.simulator.instants import rfc3339
from streaming.simulator.transients import Transient

Line = dict[str, Any]
"""One line of the truth; ``type`` tells them apart."""


def sent(patient_id: str, sending: Sending, fault: str | None) -> Line:
    """A message; the broker's coordinates are added when it has acknowledged it."""
    line: Line = {
        "type": "message",
        "message_id": sending.message_id,
        "topic": VITALS.name,
        "patient_id": patient_id,
        "observed_at": sending.observed_at,
        "fault": fault,
        "expect": sending.expect,
        "observations": sending.observations,
    }
    if sending.quarantined:
        line["quarantined"] = sending.quarantined
    if sending.refers_to:
        line["refers_to"] = sending.refers_to
    return line


def not_sent(message: Message, fault: Fault) -> Line:
    """A message that dropped out."""
    return {
        "type": "not_sent",
        "message_id": message["message_id"],
        "topic": VITALS.name,
        "patient_id": message["patient_id"],
        "observed_at": message["observed_at"],
        "fault": fault.name,
    }


def resource(patient: Patient, about: dict[str, Any]) -> Line:
    """A patient's FHIR resource."""
    return {
        "type": "resource",
        "resource": f"{about['resourceType']}/{about['id']}",
        "topic": CLINICAL_RESOURCE.name,
        "patient_id": patient.patient_id,
    }


def episode(patient: Patient, begun: Episode, start: datetime) -> Line:
    """An episode that begins."""
    instants = np.array([begun.start, begun.plateau, begun.recovery, begun.end])
    began, plateau, recovery, end = rfc3339(start, instants)
    return {
        "type": "episode",
        "patient_id": patient.patient_id,
        "location_unit": patient.unit,
        "kind": begun.kind.name,
        "severity": round(begun.severity, 3),
        "from": began,
        "plateau_from": plateau,
        "plateau_to": recovery,
        "to": end,
        "expected_rules": list(begun.kind.expected_rules),
    }


def transient(patient: Patient, begun: Transient, start: datetime) -> Line:
    """A transient that is seen for the first time."""
    began, end = rfc3339(start, np.array([begun.start, begun.end]))
    return {
        "type": "transient",
        "patient_id": patient.patient_id,
        "location_unit": patient.unit,
        "signal": begun.movement.signal,
        "from": began,
        "to": end,
        begun.movement.extreme_name: int(begun.extreme),
    }
