"""How long each request waited for its answer, and which status it got."""

import time

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.services import common

_OPERATIONS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by machines all day long: they would hide how people and devices fare."""


class Answered:
    """Stands before everything else, so that what is refused counts too. An error that nobody caught is a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note when the answer begins."""
        if scope["type"] != "http" or scope["path"] in _OPERATIONS:
            await self._app(scope, receive, send)
            return
        answered, began, open_yet = common(HTTPConnection(scope)).metrics.answered, time.perf_counter(), True

        def note(status: int) -> None:
            nonlocal open_yet
            if open_yet:
                open_yet = False
                answered.labels(str(status)).observe(time.perf_counter() - began)

        async def passed(message: Message) -> None:
            if message["type"] == "http.response.start":
                note(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, passed)
        except Exception:
            note(500)
            raise
