"""What stands before every route: who calls, whether they may, how often, whom they may see, and the record of it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from typing import Protocol
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problem
from gateway.keys import PREFIX, Keys, KeysUnreadableError
from gateway.problem import RETRY_AFTER_S, Problem
from gateway.rate import Limiter, Rate
from gateway.scopes import AUDITED, Free, Rule, rule_of
from gateway.services import common
from gateway.sight import Places
from gateway.trail import Trail, UnrecordedError
from lakehouse.audit import Event, Outcome
from lakehouse.caller import LOCAL, NOBODY, Caller, Kind
from lakehouse.caller import Scope as Permission

SUBPROTOCOL = "wardhouse"
"""What a browser's WebSocket offers beside ``bearer.KEY``: it can set no header, and an address ends up in logs."""

_BEARER_PROTOCOL = "bearer."
_POLICY = 1008  # RFC 6455
_OF_EACH, _OF_STRANGERS = Rate(500, 1000), Rate(10, 20)
_OVER = "the key holds no longer"
_MOST_NAME = 200  # of what a stranger may have us keep as a patient's id


class Tokens(Protocol):
    """Who vouches for bearer tokens that are no keys of ours."""

    async def caller(self, token: str) -> Caller | None:
        """Whose token it is, where it holds. Raises Problem where that cannot be found out."""


@dataclass(frozen=True)
class Access:
    """How callers are known. Without keys, tokens and ``required`` whoever reaches the gateway may do everything."""

    keys: Keys
    tokens: Tokens | None = None
    required: bool = False
    rate: Rate = _OF_EACH
    """Of each key and user."""
    strangers: Rate = _OF_STRANGERS
    """Of each address without either: a key that is typed wrong is told so, and no flood of records is made."""

    @property
    def asked(self) -> bool:
        """Whether a caller needs a key or a token. Raises KeysUnreadableError."""
        return self.required or self.tokens is not None or self.keys.any


@dataclass
class Visit:
    """One request or WebSocket while it is served: who it is, and whom it turned out to be about."""

    caller: Caller
    rule: Rule
    places: Places
    patient_id: str | None = None
    unit: str | None = None
    hidden: bool = False

    def among(self) -> frozenset[str] | None:
        """The patients who are seen; None: all. May block for a query."""
        return self.places.among(self.caller)

    def sees(self, patient_id: str) -> bool:
        """Whether a patient is seen; that one is not is kept for the record. May block for a query."""
        seen = self.places.sees(self.caller, patient_id)
        self.hidden = self.hidden or not seen
        return seen

    def by(self, named: str) -> str:
        """Who orders: a user who signed in, else whom the order names."""
        return self.caller.name if self.caller.kind is Kind.USER else named


def visit(connection: HTTPConnection) -> Visit:
    """The visit that a request or a WebSocket is."""
    found: Visit = connection.state.visit
    return found


class Guard:
    """ASGI middleware, around every route and every address that is none."""

    def __init__(self, app: ASGIApp, access: Access, limiter: Limiter) -> None:
        self._app, self._access, self._limiter = app, access, limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, refuse or pass on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        running = common(HTTPConnection(scope))
        rule, path = rule_of(scope, scope["app"].routes)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        asked = [*([path["patient_id"]] if "patient_id" in path else []), *query.get("patient", [])]
        here = Visit(NOBODY, rule, running.places, *_asked(asked, query.get("unit", [])))
        try:
            here.caller = await self._caller(HTTPConnection(scope), rule)
            self._count(scope, here.caller)
            await _check(here, asked)
        except Problem as refusal:
            await self._refuse(scope, receive, send, here, refusal, running.trail)
            return
        scope.setdefault("state", {})["visit"] = here
        await _Watch(scope, send, here, running.trail, self._access.keys).serve(self._app, receive)

    async def _caller(self, connection: HTTPConnection, rule: Rule) -> Caller:
        try:
            if rule.needs is Free.EVERYBODY or not self._access.asked:
                return LOCAL
            token = _token(connection)
            if token is None:
                return NOBODY
            if token.startswith(PREFIX):
                return self._access.keys.caller(token) or NOBODY
        except KeysUnreadableError as error:
            detail = "keys cannot be read: nobody is let in until who runs the gateway has mended that"
            raise Problem(503, detail, {"Retry-After": str(RETRY_AFTER_S)}) from error
        found = await self._access.tokens.caller(token) if self._access.tokens else None
        return found or NOBODY

    def _count(self, scope: Scope, caller: Caller) -> None:
        if caller.kind is Kind.LOCAL:
            return
        stranger = caller.kind is Kind.NOBODY
        name = (scope.get("client") or ("",))[0] if stranger else caller.name
        if seconds := self._limiter.wait(
            f"{caller.kind} {name}", self._access.strangers if stranger else self._access.rate
        ):
            raise Problem(429, "too many requests: come again later", {"Retry-After": str(ceil(seconds))})

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, here: Visit, refusal: Problem, trail: Trail
    ) -> None:
        common(HTTPConnection(scope)).metrics.refused.labels(str(refusal.status)).inc()
        # Who calls too often would fill the audit by it: the counter has those.
        if refusal.status != 429:
            # Nothing was shown: where it cannot be kept, the log has it.
            with suppress(UnrecordedError):
                await trail.keep(_event(here, "refused", refusal.detail))
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY, "reason": refusal.detail[:120]})
        else:
            await problem.answer(Request(scope, receive), refusal)(scope, receive, send)


def _asked(patients: list[str], units: list[str]) -> tuple[str | None, str | None]:
    return next((one[:_MOST_NAME] for one in patients), None), next((one[:_MOST_NAME] for one in units), None)


def _token(connection: HTTPConnection) -> str | None:
    kind, _, given = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and given.strip():
        return given.strip()
    if key := connection.headers.get("x-api-key"):
        return key.strip()
    if connection.scope["type"] == "websocket":
        offered = connection.headers.get("sec-websocket-protocol", "").split(",")
        return next((one.strip().removeprefix(_BEARER_PROTOCOL) for one in offered if _BEARER_PROTOCOL in one), None)
    return None


async def _check(here: Visit, asked: list[str]) -> None:
    """Raise Problem where the caller may not, or where a patient is asked for who is not seen."""
    caller, needs = here.caller, here.rule.needs
    if caller.kind is Kind.NOBODY:
        detail = "give a key or a token that holds: Authorization: Bearer KEY"
        raise Problem(401, detail, {"WWW-Authenticate": 'Bearer realm="wardhouse"'})
    if not isinstance(needs, Free) and not caller.may(needs):
        raise Problem(403, f"{caller.name} may not {here.rule.action}: it needs the scope {needs}")
    if needs in AUDITED - {Permission.RESEARCH} and caller.units is not None:
        for patient_id in asked:
            if not await asyncio.to_thread(here.sees, patient_id):
                raise unseen()


def unseen() -> Problem:
    """A patient of another unit, or of none: the same answer, so that nobody learns who is in the hospital."""
    return Problem(404, "no such patient is in the care units of this key")


def _event(here: Visit, outcome: Outcome, detail: str | None = None) -> Event:
    caller = here.caller
    return Event("gateway", caller.kind, caller.name, here.rule.action, outcome, here.patient_id, here.unit, detail)


class _Watch:
    """Stands between a route and its caller: records what is answered, and ends what a key no longer opens."""

    def __init__(self, scope: Scope, send: Send, here: Visit, trail: Trail, keys: Keys) -> None:
        self._scope, self._send, self._here, self._trail, self._keys = scope, send, here, trail, keys
        self._recorded = self._ended = False

    async def serve(self, app: ASGIApp, receive: Receive) -> None:
        """Run the application within this one request."""
        try:
            await app(self._scope, receive, self._passed)
        except Exception:
            if not self._ended:
                await self._record("failed")
                raise

    async def _passed(self, message: Message) -> None:
        if self._ended:
            if message.get("more_body", False):
                raise ConnectionAbortedError("what this stream tells is told to nobody")
            return
        match message["type"]:
            case "http.response.start":
                await self._answered(message)
                return
            case "websocket.accept":
                await self._record("done")
                if SUBPROTOCOL in self._scope.get("subprotocols", ()):
                    message = {**message, "subprotocol": SUBPROTOCOL}
            case "websocket.close":
                await self._record("refused")
            case "websocket.send":
                await self._still()
            case "http.response.body" if message.get("more_body", False):
                await self._still()
        await self._send(message)

    async def _answered(self, message: Message) -> None:
        status = message["status"]
        try:
            await self._record(self._outcome(status))
        except UnrecordedError:
            # An order holds by now, whatever is said of it; what was read can still be kept back.
            if self._here.rule.needs in (Permission.READ, Permission.RESEARCH) and status < 400:
                self._ended = True
                detail = "what cannot be recorded is not shown: the disk takes no record"
                refusal = Problem(503, detail, {"Retry-After": str(RETRY_AFTER_S)})
                await refusal.response()(self._scope, _nothing, self._send)
                return
        await self._send(message)

    def _outcome(self, status: int) -> Outcome:
        if status < 400:
            return "done"
        return "refused" if self._here.hidden or status in (401, 403) else "failed"

    async def _record(self, outcome: Outcome) -> None:
        if not self._recorded and self._here.rule.audited:
            await self._trail.keep(_event(self._here, outcome))
            self._recorded = True

    async def _still(self) -> None:
        if self._here.caller.kind is Kind.LOCAL or self._keys.still(self._here.caller):
            return
        self._ended = True
        if self._scope["type"] == "websocket":
            await self._send({"type": "websocket.close", "code": _POLICY, "reason": _OVER})
        else:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        raise ConnectionAbortedError(_OVER)


async def _nothing() -> Message:  # pragma: no cover - a refusal asks for nothing
    return {"type": "http.request", "body": b"", "more_body": False}
