"""A FHIR R4 Observation with SampledData of an ECG as records of the topic ``waveform``. Pure.

Each lead is a record. What such an Observation says beside its samples lands nowhere, so one that also has other
values is refused: they go in an Observation of their own.
"""

from gateway import fhir_observation
from gateway.fhir_error import Resource, refused
from gateway.ingest import Record
from gateway.site import Site, digest
from lakehouse.ecg import sampled_data
from lakehouse.ecg.message import WaveformMessageError, encode
from lakehouse.ecg.sampled_data import SampledDataError
from lakehouse.topics import WAVEFORM

_SAMPLED = "valueSampledData"
_STATUSES = ("preliminary", "final", "amended", "corrected")
_LONGEST_ID = 128


def is_waveform(observation: Resource) -> bool:
    """Whether an Observation, or a component of it, has samples."""
    return any(_SAMPLED in part for part in (observation, *(observation.get("component") or [])))


def records(observation: Resource, system: str, patient_id: str, site: Site) -> tuple[Record, ...]:
    """A record for each lead of a checked Observation. Raises FhirError."""
    status = observation["status"]
    if status not in _STATUSES:
        # Samples are landed once and stay as they are: there is nothing by which they could be taken back.
        raise refused("not-supported", f"status {status}: of a waveform {', '.join(_STATUSES)}", "Observation.status")
    beside = [part for part in observation.get("component") or [] if _SAMPLED not in part]
    if beside or any(name.startswith("value") and name != _SAMPLED for name in observation):
        raise refused("not-supported", "it has samples and other values: send an Observation of each", "Observation")
    at = fhir_observation.observed_at(observation, site)
    timed = {name: value for name, value in observation.items() if not name.startswith("effective")}
    device = fhir_observation.device(observation.get("device")) or f"{system}/Observation"
    name = f"{system}/Observation/{digest(observation)}"
    try:
        leads = list(sampled_data.chunks({**timed, "effectiveInstant": at}, patient_id, device))
        return tuple(
            Record(message_id, patient_id.encode(), encode(lead, message_id, system), WAVEFORM.name)
            for lead in leads
            for message_id in (f"{name}/{lead.signal}"[-_LONGEST_ID:],)
        )
    except (SampledDataError, WaveformMessageError) as error:
        raise refused("business-rule", str(error), f"Observation.{_SAMPLED}") from error
