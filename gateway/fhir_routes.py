"""FHIR R4 over HTTP: resources and Bundles in, answered in FHIR's own terms. gateway.fhir decides what is taken."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from gateway import fhir, problem
from gateway.body import read_body
from gateway.fhir_error import MEDIA_TYPE, FhirError, Issue, Resource, outcome
from gateway.ingest import BrokerUnavailableError, Receipt, Record
from gateway.outbox import Outbox
from gateway.site import Site

_KINDS = (MEDIA_TYPE, "application/json")
_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not a FHIR resource: an OperationOutcome says what to mend"},
    413: {"description": "The body is too large"},
    415: {"description": "The body is not declared as FHIR JSON"},
    422: {"description": "FHIR, but it cannot be taken: an OperationOutcome says why"},
    503: {"description": "Kafka did not acknowledge: send the same again"},
}
_EXAMPLE = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
    "subject": {"reference": "Patient/4711"},
    "effectiveDateTime": "2026-03-01T12:00:00Z",
    "valueQuantity": {"value": 118, "system": "http://unitsofmeasure.org", "code": "/min"},
}


def add(
    app: FastAPI, outbox: Callable[[Request], Outbox], site: Site, clock: Callable[[], datetime], max_body_bytes: int
) -> None:
    """Add the routes below ``/fhir``."""

    async def body(request: Request) -> Any:
        return fhir.read((await read_body(request, max_body_bytes, _KINDS))[0])

    @app.post("/fhir", tags=["FHIR"], responses=_ANSWERS, openapi_extra=_takes("Bundle"))
    async def take_a_bundle(request: Request) -> Response:
        """Take a Bundle of type transaction (all or none) or batch (each entry for itself)."""
        kind, results = fhir.take_bundle(await body(request), site, clock())
        taken = [result for result in results if isinstance(result, fhir.Taken)]
        receipts = iter(await _send(outbox(request), [record for one in taken for record in one.records]))
        entries = [_refused(one) if isinstance(one, FhirError) else _done(one, receipts) for one in results]
        return _json({"resourceType": "Bundle", "type": f"{kind}-response", "entry": entries}, 200)

    @app.get("/fhir/metadata", tags=["FHIR"])
    async def capabilities() -> Response:
        """What this server takes, as a CapabilityStatement."""
        return _json(capability_statement(clock()), 200)

    for resource_type in fhir.TYPES:
        _add_type(app, resource_type, body, outbox, site, clock)


def _add_type(
    app: FastAPI,
    resource_type: str,
    body: Callable[[Request], Any],
    outbox: Callable[[Request], Outbox],
    site: Site,
    clock: Callable[[], datetime],
) -> None:
    async def send(request: Request, taken: fhir.Taken, status: int) -> Response:
        receipts = await _send(outbox(request), taken.records)
        location = f"{str(request.base_url).rstrip('/')}/fhir/{taken.location}"
        return _json(outcome(map(_receipt, receipts), "information"), status, {"Location": location})

    async def create(request: Request) -> Response:
        return await send(request, fhir.take(await body(request), resource_type, site, clock()), 201)

    async def update(request: Request, resource_id: str) -> Response:
        return await send(request, fhir.take(await body(request), resource_type, site, clock(), resource_id), 200)

    described = {"tags": ["FHIR"], "responses": _ANSWERS, "openapi_extra": _takes(resource_type)}
    app.add_api_route(
        f"/fhir/{resource_type}",
        create,
        methods=["POST"],
        status_code=201,
        summary=f"{resource_type}: take one",
        operation_id=f"create_{resource_type}",
        **described,  # type: ignore[arg-type]
    )
    app.add_api_route(
        f"/fhir/{resource_type}/{{resource_id}}",
        update,
        methods=["PUT"],
        summary=f"{resource_type}: take one under its id, such as a correction",
        operation_id=f"update_{resource_type}",
        **described,  # type: ignore[arg-type]
    )


def _takes(resource_type: str) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "required": ["resourceType"],
        "properties": {"resourceType": {"const": resource_type}},
        "description": f"A FHIR R4 {resource_type}.",
    }
    content: dict[str, Any] = {"schema": schema}
    if resource_type == "Observation":
        content["example"] = _EXAMPLE
    return {"requestBody": {"required": True, "content": dict.fromkeys(_KINDS, content)}}


async def _send(outbox: Outbox, records: Sequence[Record]) -> list[Receipt]:
    if not records:
        return []
    try:
        return await outbox.take(records)
    except BrokerUnavailableError as error:
        raise problem.unavailable(error) from error


def _json(resource: Resource, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(resource), status, dict(headers or {}), MEDIA_TYPE)


def _receipt(receipt: Receipt) -> Issue:
    if receipt.offset is None:
        return Issue("informational", "on the gateway's disk; it goes to Kafka when the broker is back")
    return Issue("informational", f"acknowledged by Kafka: partition {receipt.partition}, offset {receipt.offset}")


def _done(taken: fhir.Taken, receipts: Iterator[Receipt]) -> dict[str, Any]:
    """The entry of a response; takes the receipts of its records."""
    response = {
        "status": "200 OK" if taken.update else "201 Created",
        "location": taken.location,
        "outcome": outcome(map(_receipt, islice(receipts, len(taken.records))), "information"),
    }
    return {"response": response}


def _refused(error: FhirError) -> dict[str, Any]:
    # RFC 9110 calls 422 otherwise than Python does; the number is what counts.
    return {
        "response": {"status": f"{error.status} {HTTPStatus(error.status).phrase}", "outcome": outcome(error.issues)}
    }


def capability_statement(now: datetime) -> Resource:
    """What the server takes: no reading, no searching."""
    interactions = [{"code": "create"}, {"code": "update"}]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": now.isoformat(),
        "kind": "instance",
        "implementation": {"description": "Wardhouse gateway: vital signs and what stands beside them, in only"},
        "fhirVersion": "4.0.1",
        "format": ["json", MEDIA_TYPE],
        "rest": [
            {
                "mode": "server",
                "documentation": "An Observation of the vital-signs profile lands as values in silver.observation,"
                " one with SampledData of an ECG as chunks in silver.waveform_chunk.",
                "resource": [
                    {"type": resource_type, "interaction": interactions, "updateCreate": True}
                    for resource_type in fhir.TYPES
                ],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
            }
        ],
    }
