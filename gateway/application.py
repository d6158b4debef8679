"""What every HTTP application here has: a guard before its routes, errors as problems, and operations."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gateway import problem
from gateway.answer import Json
from gateway.answered import Answered
from gateway.guard import Access, Guard
from gateway.rate import Limiter
from gateway.services import common


def make(
    title: str,
    description: str,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    access: Access,
    hosts: Sequence[str],
) -> FastAPI:
    """An application without routes; its ``lifespan`` must set ``app.state.services``."""
    # Its pages load nothing from elsewhere: a hospital's network may not let them.
    app = FastAPIOffline(
        title=title, description=description, version="1", lifespan=lifespan, default_response_class=Json
    )
    app.add_middleware(Guard, access=access, limiter=Limiter(time.monotonic))
    # Without this a web page could reach the loopback address under a name of its own and read patients' data.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", *hosts])
    app.add_middleware(Answered)
    problem.install(app)
    return app


def add_operations(app: FastAPI, readiness: Callable[[Request], dict[str, Any]], ready_when: str) -> None:
    """Health, readiness (503 where the answer's ``ready`` is false) and metrics."""

    @app.get("/healthz", tags=["Operations"])
    async def healthz() -> Response:
        """Whether the process answers."""
        return Json({"status": "ok"})

    @app.get("/readyz", tags=["Operations"], description=ready_when, responses={503: {"description": "It cannot"}})
    def readyz(request: Request) -> Response:
        body = readiness(request)
        return Json(body, 200 if body["ready"] else 503)

    @app.get("/metrics", tags=["Operations"], response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        """Counters and gauges in the text format of Prometheus."""
        return Response(generate_latest(common(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)
