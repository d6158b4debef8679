"""What ends a stream whose key is revoked, and what becomes of an application's failure: on a bare ASGI application."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway import keys
from gateway.guard import Visit, _Watch
from gateway.keys import Keys
from gateway.scopes import Rule
from lakehouse.audit import Event
from lakehouse.caller import Caller, Kind, Scope
from lakehouse.datadir import DataDir

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Kept:
    """The trail, whose outbox needs a broker."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    async def keep(self, event: Event) -> None:
        self.outcomes.append(event.outcome)


def served(data: DataDir, kind: str, app: Any) -> tuple[list[dict[str, Any]], list[str], Exception | None]:
    """What a listener with a key gets of an application, what is recorded, and the error that comes out."""
    path, kept = keys.file_of(data), Kept()
    made, _ = keys.create(path, "screen", frozenset({Scope.READ}), NOON)
    caller = Caller(Kind.KEY, made.name, made.scopes, made.units, made.key_id)
    here = Visit(caller, Rule(Scope.READ, "listen"), None)  # type: ignore[arg-type]
    got: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        got.append(dict(message))

    watch = _Watch({"type": kind}, send, here, kept, Keys(path, lambda: NOON))  # type: ignore[arg-type]
    try:
        asyncio.run(watch.serve(lambda _, __, passed: app(passed, path), None))  # type: ignore[arg-type]
    except RuntimeError as error:
        return got, kept.outcomes, error
    return got, kept.outcomes, None


@pytest.mark.parametrize(
    ("kind", "first", "next_", "last"),
    [
        (
            "http",
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "http.response.body", "body": b"heard", "more_body": True},
            {"type": "http.response.body", "body": b"", "more_body": False},
        ),
        (
            "websocket",
            {"type": "websocket.accept"},
            {"type": "websocket.send", "text": "heard"},
            {"type": "websocket.close", "code": 1008, "reason": "the key holds no longer"},
        ),
    ],
)
def test_a_stream_whose_key_is_revoked_ends_with_its_next_event(
    data: DataDir, kind: str, first: dict[str, Any], next_: dict[str, Any], last: dict[str, Any]
) -> None:
    async def app(send: Any, path: Any) -> None:
        await send(first)
        await send(next_)
        keys.revoke(path, "screen", NOON)
        await send(next_)

    assert served(data, kind, app) == ([first, next_, last], ["done"], None)


def test_nothing_goes_out_after_the_end_though_the_application_goes_on(data: DataDir) -> None:
    start = {"type": "http.response.start", "status": 200, "headers": []}
    end = {"type": "http.response.body", "body": b"", "more_body": False}

    async def app(send: Any, path: Any) -> None:
        await send(start)
        keys.revoke(path, "screen", NOON)
        with pytest.raises(ConnectionAbortedError):
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two", "more_body": False})
        await send({"type": "http.response.body", "body": b"three", "more_body": True})

    assert served(data, "http", app) == ([start, end], ["done"], None)


def test_what_fails_is_recorded_as_failed_and_the_error_goes_on(data: DataDir) -> None:
    async def app(_send: Any, _path: Any) -> None:
        raise RuntimeError("a table is gone")

    got, outcomes, error = served(data, "http", app)

    assert (got, outcomes, str(error)) == ([], ["failed"], "a table is gone")


def test_a_socket_that_is_closed_before_it_was_taken_is_recorded_as_refused(data: DataDir) -> None:
    close = {"type": "websocket.close", "code": 1008, "reason": "not yours"}

    async def app(send: Any, _path: Any) -> None:
        await send(close)

    assert served(data, "websocket", app) == ([close], ["refused"], None)
