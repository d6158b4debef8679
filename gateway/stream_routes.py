"""Live streams: server-sent events, and the same over a WebSocket."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
from fastapi import FastAPI, Header, Query, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

from gateway.guard import visit
from gateway.problem import RETRY_AFTER_S, Problem
from gateway.stream import EventIdError, Hub, Positions, Stream, StreamUnavailableError, Told, Wanted, positions_of

log = logging.getLogger(__name__)

HOSTS = ("localhost", "127.0.0.1", "::1")
"""What a browser may call the host of a page that opens a WebSocket: no other origin's page reads patients' data."""

_STALLED_S = 30.0  # a listener that takes nothing for so long is cut: its connection would be held for good
_POLICY, _TRY_AGAIN = 1008, 1013  # close codes of RFC 6455
_RETRY_MS = 2_000

_Patient = Annotated[str | None, Query(description="Only of this patient, system/value.")]
_Unit = Annotated[str | None, Query(description="Only of this care unit.")]
_Resume = Annotated[str | None, Query(description="The id of the last event that was had: go on behind it.")]

_SSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events ready, vitals, alert, lost, dropped, each with an id; a comment every 15 s",
        "content": {"text/event-stream": {}},
    },
    422: {"description": "resume or Last-Event-ID is no id of an event"},
    503: {"description": "No broker answers"},
}


def add(app: FastAPI, hub: Hub, hosts: Sequence[str] = ()) -> None:
    """Add the routes; ``hosts`` are further names of the gateway, whose pages may listen."""

    @app.get("/api/live", tags=["Ways out"], response_class=StreamingResponse, responses=_SSE)
    async def live_events(
        request: Request,
        patient: _Patient = None,
        unit: _Unit = None,
        resume: _Resume = None,
        last_event_id: Annotated[str | None, Header(description="As browsers send it; before resume.")] = None,
    ) -> Response:
        """Vitals and alerts as they come. A listener that is too slow is dropped with a reason, and may come again."""
        # The header first: a browser that reconnects repeats the address, and knows more than it.
        stream = Stream(hub, Wanted(patient, unit, visit(request).caller.units), _positions(last_event_id or resume))
        try:
            await stream.begin()
        except StreamUnavailableError as error:
            await stream.end()
            raise Problem(503, str(error), {"Retry-After": str(RETRY_AFTER_S)}) from error
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _EventStream(_as_events(stream), headers)

    @app.websocket("/api/live/ws")
    async def live_socket(
        websocket: WebSocket, patient: _Patient = None, unit: _Unit = None, resume: _Resume = None
    ) -> None:
        """The same, a JSON object a message: id, event, data."""
        origin = websocket.headers.get("origin")
        if origin is not None and urlsplit(origin).hostname not in (*HOSTS, *hosts):
            await websocket.close(_POLICY, "pages of another origin may not listen")
            return
        await websocket.accept()
        try:
            stream = Stream(hub, Wanted(patient, unit, visit(websocket).caller.units), _positions(resume))
        except Problem as problem:
            await websocket.close(_POLICY, _reason(problem.detail))
            return
        try:
            await stream.begin()
            await _until_first(_talk(websocket, stream), _listen(websocket))
        except StreamUnavailableError as error:
            await websocket.close(_TRY_AGAIN, _reason(str(error)))
        except (WebSocketDisconnect, TimeoutError, OSError) as error:
            log.info("live stream: a listener is gone: %r", error)
        finally:
            await stream.end()


def _positions(text: str | None) -> Positions | None:
    if not text:
        return None
    try:
        return positions_of(text)
    except EventIdError as error:
        raise Problem(422, str(error)) from error


async def _as_events(stream: Stream) -> AsyncGenerator[bytes, None]:
    yield f"retry: {_RETRY_MS}\n\n".encode()
    try:
        async with aclosing(stream.told()) as told:
            async for one in told:
                yield _as_event(one)
    finally:
        await stream.end()


def _as_event(one: Told) -> bytes:
    """An event; a heartbeat is a comment, and an id that a browser remembers without an event."""
    place = f"id: {one.id}\n".encode()
    if one.kind == "heartbeat":
        return b": heartbeat\n" + place + b"\n"
    return b"event: " + one.kind.encode() + b"\n" + place + b"data: " + one.data + b"\n\n"


class _EventStream(StreamingResponse):
    """Ends the stream when its listener is gone or takes nothing any more."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(pieces, headers=headers, media_type="text/event-stream")
        self._pieces = pieces

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(partial(_within, send))
        except TimeoutError:
            # Left unfinished, so that the server closes the connection.
            log.info("live stream: a listener took nothing for %.0f s", _STALLED_S)
        finally:
            await self._pieces.aclose()


async def _within(send: Send, message: Message) -> None:
    await asyncio.wait_for(send(message), _STALLED_S)


async def _talk(websocket: WebSocket, stream: Stream) -> None:
    async with aclosing(stream.told()) as told:
        async for one in told:
            message = {"id": one.id, "event": one.kind, "data": orjson.Fragment(one.data)}
            await asyncio.wait_for(websocket.send_text(orjson.dumps(message).decode()), _STALLED_S)
            if one.kind == "dropped":
                await websocket.close(_TRY_AGAIN, _reason(str(orjson.loads(one.data)["reason"])))


async def _listen(websocket: WebSocket) -> None:
    """Whatever a listener says is left unheard, but for its going. Raises WebSocketDisconnect."""
    while True:
        await websocket.receive_text()


async def _until_first(*tasks: Any) -> None:
    """Run all until the first ends, and raise what it raises."""
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    for task in done:
        task.result()


def _reason(text: str) -> str:
    """As a close frame takes it: at most 123 bytes."""
    return text.encode()[:120].decode(errors="ignore")
