"""Device messages in over HTTP: one contract and one answer, whoever takes them."""

from dataclasses import asdict

from fastapi import FastAPI, Request, Response

from gateway import ingest, problem
from gateway.answer import Json
from gateway.body import read_body
from gateway.problem import Problem
from gateway.services import Common, common
from lakehouse import message

MAX_BODY_BYTES = 1024 * 1024
"""The largest body taken: some thousand messages, and below what the broker takes as one record."""

_MOST_FAULTS = 20  # a list that is wrong throughout is told so by its first faults, not by a megabyte of them


def add(app: FastAPI, max_body_bytes: int, safe_when: str) -> None:
    """Add the route; ``safe_when`` says to its readers when a message is answered."""
    contract = message.schema()
    body = {
        "application/json": {"schema": {"oneOf": [contract, {"type": "array", "minItems": 1, "items": contract}]}},
        "application/x-ndjson": {"schema": {"type": "string", "description": "A message a line."}},
    }

    @app.post(
        "/api/iot",
        status_code=202,
        tags=["Ways in"],
        summary="Take Device Messages",
        description=safe_when,
        openapi_extra={"requestBody": {"required": True, "content": body}},
        responses={
            413: {"description": "The body is larger than 1 MiB"},
            415: {"description": "The body is not declared as JSON"},
            422: {"description": "Messages break the contract; each is named, and nothing was sent"},
            503: {"description": "They are not safe: send the same again"},
        },
    )
    async def take_device_messages(request: Request) -> Response:
        # A web page of another origin may post plain text unasked, but JSON only after asking, which is refused.
        content, kind = await read_body(request, max_body_bytes, tuple(body))
        receipts = await _taken(common(request), content, lines=kind == "application/x-ndjson")
        return Json({"accepted": len(receipts), "messages": [asdict(receipt) for receipt in receipts]}, 202)


async def _taken(running: Common, body: bytes, *, lines: bool) -> list[ingest.Receipt]:
    try:
        messages = ingest.parse_lines(body) if lines else ingest.parse(body)
    except ingest.UnreadableError as error:
        raise Problem(422, str(error)) from error
    records, faults = ingest.check(messages)
    if faults:
        running.metrics.messages.labels("refused").inc(len(messages))
        raise Problem(
            422,
            f"{len(faults)} of {len(messages)} messages break the contract vitals.v{message.SCHEMA_VERSION};"
            " nothing was sent",
            more={"errors": [asdict(fault) for fault in faults[:_MOST_FAULTS]]},
        )
    try:
        return await running.outbox.take(records)
    except ingest.BrokerUnavailableError as error:
        raise problem.unavailable(error) from error
