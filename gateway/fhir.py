"""FHIR R4 resources and Bundles as records for Kafka. Pure.

A vital-signs Observation becomes a device message, one with samples of an ECG a message for each lead; Patient,
Encounter and what stands beside them become records of ``clinical.resource``. fhir.resources checks the structure.

Ids: a resource keeps its own. One without an id gets the same id each time it is sent: a Patient or an Encounter from
its identifier (so that HL7 v2 names the same patient), another from its identifier, its ``urn:uuid:`` or its content.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from gateway import fhir_observation, fhir_waveform
from gateway.fhir_error import FhirError, Issue, Resource, refused
from gateway.fhir_time import instant
from gateway.ingest import Record, of_message, of_resource
from gateway.site import Site, digest, fhir_id, named, utc
from lakehouse.message import SCHEMA_VERSION, ContractError

RESOURCE_TYPES = (
    "Patient",
    "Encounter",
    "Condition",
    "AllergyIntolerance",
    "Appointment",
    "MedicationRequest",
    "DocumentReference",
)
"""What lands as it is; an Observation lands as values or as samples."""

TYPES = ("Observation", *RESOURCE_TYPES)
SYSTEM = "fhir"
"""The first half of a patient id where the site names none."""

MAX_ENTRIES = 1000
_DEEPEST = 60  # FHIR's own resources stay below 20; what goes far deeper would exhaust a parser's stack

_URN = "urn:"
_VERSIONED = re.compile(r"/_history/[^/]*$")
_REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]*)/([A-Za-z0-9.-]{1,64})")
_PROBLEM = {"missing": "required", "extra_forbidden": "structure"}


@dataclass(frozen=True)
class Taken:
    """One resource that can be sent: its type and id, its records, and whether it was a PUT."""

    resource_type: str
    resource_id: str
    records: tuple[Record, ...]
    update: bool = False

    @property
    def location(self) -> str:
        """Its address, below the base."""
        return f"{self.resource_type}/{self.resource_id}"


def read(body: bytes) -> Any:
    """A body as JSON. Raises FhirError."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise FhirError(400, Issue("structure", f"the body is not JSON: {error}")) from error
    if _is_deep(content):
        raise FhirError(400, Issue("structure", f"the body is nested more than {_DEEPEST} levels deep"))
    return content


def _pruned(value: Any, name: str = "") -> Any:
    """JSON without null, which FHIR does not know but in lists of primitives and beside them (``_given``)."""
    if isinstance(value, dict):
        return {key: _pruned(item, key) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        holds_gaps = name.startswith("_") or any(isinstance(item, str) for item in value)
        return [_pruned(item) for item in value if item is not None or holds_gaps]
    return value


def _is_deep(content: Any) -> bool:
    level = [content] if isinstance(content, dict | list) else []
    for _ in range(_DEEPEST):
        inner = [value.values() if isinstance(value, dict) else value for value in level]
        level = [item for values in inner for item in values if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def take(content: Any, resource_type: str, site: Site, now: datetime, resource_id: str | None = None) -> Taken:
    """One resource, posted to its type or put under its id. Raises FhirError."""
    resource = _checked(_pruned(content), (resource_type,))
    if resource_id is not None and resource.get("id") != resource_id:
        raise FhirError(400, Issue("invalid", f"the id of the resource is not {resource_id}", f"{resource_type}.id"))
    resource["id"] = resource.get("id") or _id(resource, None)
    resource = _resolved(resource, {})
    return Taken(resource_type, resource["id"], _records(resource, site, now), resource_id is not None)


def take_bundle(content: Any, site: Site, now: datetime) -> tuple[str, list[Taken | FhirError]]:
    """The type of a Bundle, and each of its entries taken or refused, in order.

    Of a transaction all entries are taken or FhirError is raised, as it is where it is no such Bundle.
    """
    bundle = _checked(_pruned(content), ("Bundle",))
    if bundle["type"] not in ("transaction", "batch"):
        raise refused("not-supported", f"a Bundle of type {bundle['type']}: send transaction or batch", "Bundle.type")
    entries = bundle.get("entry") or []
    if len(entries) > MAX_ENTRIES:
        raise refused("too-long", f"{len(entries)} entries: send at most {MAX_ENTRIES} at a time", "Bundle.entry")
    results = list(_entries(entries, site, now))
    if bundle["type"] == "transaction" and (errors := [r for r in results if isinstance(r, FhirError)]):
        raise FhirError(max(e.status for e in errors), *(issue for error in errors for issue in error.issues))
    return bundle["type"], results


def _entries(entries: list[dict[str, Any]], site: Site, now: datetime) -> Iterator[Taken | FhirError]:
    named = _names(entries)
    for number, entry in enumerate(entries):
        try:
            yield _entry(entry, named, site, now)
        except FhirError as error:
            yield error.inside(f"Bundle.entry[{number}]")


def _names(entries: list[dict[str, Any]]) -> dict[str, str]:
    """What each entry's ``fullUrl`` stands for, as ``Type/id``; entries without an id get theirs here.

    An Observation's is made of its references, so these are resolved first.
    """
    names: dict[str, str] = {}
    for of_values in (False, True):
        for entry in entries:
            resource = entry.get("resource") or {}
            if (resource.get("resourceType") == "Observation") is not of_values:
                continue
            if of_values:
                resource = entry["resource"] = _rewritten(resource, names)
            if resource and not resource.get("id"):
                resource["id"] = _id(resource, entry.get("fullUrl"))
            if entry.get("fullUrl") and resource:
                names[entry["fullUrl"]] = f"{resource.get('resourceType')}/{resource['id']}"
    return names


def _entry(entry: dict[str, Any], names: Mapping[str, str], site: Site, now: datetime) -> Taken:
    request = entry.get("request") or {}
    method, url = request.get("method"), request.get("url") or ""
    if method not in ("POST", "PUT"):
        raise refused("not-supported", f"{method or 'no method'}: POST and PUT are taken", "request.method")
    if "resource" not in entry:
        raise refused("required", "there is no resource", "resource")
    resource = _resolved(_checked(entry["resource"], TYPES), names)
    address = resource["resourceType"] if method == "POST" else f"{resource['resourceType']}/{resource['id']}"
    if url.strip("/") != address:
        raise refused("invalid", f"the url {url} does not fit the resource: {address}", "request.url")
    return Taken(resource["resourceType"], resource["id"], _records(resource, site, now), method == "PUT")


@cache
def _model(resource_type: str) -> type[BaseModel]:
    # Half a second, on the first resource of a kind: a gateway without FHIR need not pay for it.
    from fhir.resources.R4B import get_fhir_model_class

    model: type[BaseModel] = get_fhir_model_class(resource_type)
    return model


def _checked(content: Any, types: tuple[str, ...]) -> Resource:
    """The content, where it is a valid resource of one of the types. Raises FhirError."""
    found = content.get("resourceType") if isinstance(content, dict) else None
    if not isinstance(found, str):
        raise FhirError(400, Issue("structure", "the body is not a FHIR resource: it has no resourceType"))
    if found not in types:
        raise refused("not-supported", f"{found} is not taken here: {', '.join(types)}", "resourceType")
    try:
        _model(found).model_validate(_shell(content) if found == "Bundle" else content)
    except ValidationError as error:
        raise FhirError(400, *(_issue(found, fault) for fault in error.errors()[:20])) from error
    if found == "Bundle":
        return {**content, "entry": [dict(entry) for entry in content.get("entry") or []]}
    return dict(content)


def _shell(bundle: dict[str, Any]) -> dict[str, Any]:
    """A Bundle without its resources, which are checked one by one: of a batch the others are taken."""
    entries = bundle.get("entry")
    if not isinstance(entries, list):
        return bundle
    bare = [{k: v for k, v in e.items() if k != "resource"} if isinstance(e, dict) else e for e in entries]
    for number, entry in enumerate(entries):
        if isinstance(entry, dict) and not isinstance(entry.get("resource", {}), dict):
            raise FhirError(400, Issue("structure", "it is not a resource", f"Bundle.entry[{number}].resource"))
    return bundle | {"entry": bare}


def _issue(resource_type: str, fault: Mapping[str, Any]) -> Issue:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
    text = " ".join(str(fault["msg"]).split())
    return Issue(_PROBLEM.get(fault["type"], "value"), text, f"{resource_type}{path}")


def _id(resource: Resource, full_url: str | None) -> str:
    """An id for a resource without one, the same whenever it is sent."""
    if resource.get("resourceType") == "Observation":
        return fhir_observation.identity(resource)
    identifier = _identifier(resource)
    if identifier and resource.get("resourceType") in ("Patient", "Encounter"):
        return fhir_id(identifier["value"])
    if identifier:
        return digest([identifier.get("system"), identifier["value"]])
    if full_url and full_url.startswith(_URN):
        return fhir_id(full_url.rsplit(":", 1)[-1])
    return digest(resource)


def _identifier(resource: Resource) -> dict[str, Any] | None:
    """The identifier a resource is known by: a medical record number, else the first that has a value."""
    given = resource.get("identifier")
    found = [
        i for i in (given if isinstance(given, list) else [given]) if isinstance(i, dict) and _is_text(i.get("value"))
    ]
    return next((i for i in found if "MR" in _codes(i.get("type"))), found[0] if found else None)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _codes(concept: Any) -> list[Any]:
    codings = concept.get("coding") if isinstance(concept, dict) else None
    return [c.get("code") for c in codings or [] if isinstance(c, dict)]


def _resolved(resource: Resource, names: Mapping[str, str]) -> Resource:
    """The resource with every reference as ``Type/id``. Raises FhirError for one that no entry of a Bundle is."""

    def unknown(reference: str) -> None:
        if reference.startswith(_URN):
            raise refused("not-found", f"the reference {reference} is of no entry of this Bundle")

    return _rewritten(resource, names, unknown)


def _ignored(_: str) -> None:
    """A reference that a later pass resolves."""


def _rewritten(resource: Resource, names: Mapping[str, str], check: Callable[[str], None] = _ignored) -> Resource:
    def rewritten(value: Any) -> Any:
        if isinstance(value, list):
            return [rewritten(item) for item in value]
        return _rewritten(value, names, check) if isinstance(value, dict) else value

    found = {key: rewritten(item) for key, item in resource.items()}
    if isinstance(reference := found.get("reference"), str):
        found["reference"] = names.get(reference, _VERSIONED.sub("", reference))
        check(found["reference"])
    return found


def _records(resource: Resource, site: Site, now: datetime) -> tuple[Record, ...]:
    system = named(site.system or SYSTEM)
    patient_id = f"{system}/{_patient(resource)}"
    try:
        if resource["resourceType"] == "Observation" and fhir_waveform.is_waveform(resource):
            return fhir_waveform.records(resource, system, patient_id, site)
        if resource["resourceType"] == "Observation" and not fhir_observation.is_panel(resource):
            encounter = _referenced(resource.get("encounter"), "Encounter")
            encounter_id = f"{system}/{encounter}" if encounter else None
            return (of_message(fhir_observation.message(resource, system, patient_id, encounter_id, site, now)),)
        return (of_resource(_envelope(resource, system, patient_id)),)
    except ContractError as error:
        raise refused("business-rule", str(error)) from error


def _envelope(resource: Resource, system: str, patient_id: str) -> dict[str, Any]:
    record = {"schema_version": SCHEMA_VERSION, "patient_id": patient_id, "source": system, "resource": resource}
    updated = (resource.get("meta") or {}).get("lastUpdated")
    if updated:
        record["recorded_at"] = utc(instant(updated, Site(), f"{resource['resourceType']}.meta.lastUpdated"))
    return record


def _patient(resource: Resource) -> str:
    """The id of the patient that a resource is about. Raises FhirError."""
    kind = resource["resourceType"]
    if kind == "Patient":
        return str(resource["id"])
    # Who takes part in an appointment may be a practitioner too: an identifier alone must say that it is a patient's.
    actors = [one["actor"] for one in resource.get("participant") or [] if "actor" in one]
    patients = [actor for actor in actors if actor.get("reference") or actor.get("type") == "Patient"]
    for reference in (resource.get("subject"), resource.get("patient"), *(patients if kind == "Appointment" else ())):
        if found := _referenced(reference, "Patient"):
            return found
    raise refused("required", "it names no patient: a reference Patient/ID, or an identifier", f"{kind}.subject")


def _referenced(reference: Any, resource_type: str) -> str | None:
    """The id that a reference names, by address or by identifier; None where it is of another type."""
    if not isinstance(reference, dict):
        return None
    if address := reference.get("reference"):
        match = _REFERENCE.fullmatch(address)
        return match[2] if match and match[1] == resource_type else None
    identifier = reference.get("identifier") or {}
    if identifier.get("value") and reference.get("type") in (None, resource_type):
        return fhir_id(identifier["value"])
    return None
