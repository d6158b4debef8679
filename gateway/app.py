"""The gateway's HTTP interface: device messages in, latest vitals and history out."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import AwareDatetime
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gateway import ingest, live, problem, series
from gateway.metrics import Metrics
from gateway.problem import Problem
from lakehouse import message
from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError
from lakehouse.topics import ALERT_EVALUATIONS, VITALS

MAX_BODY_BYTES = 1024 * 1024
"""The largest body taken: some thousand messages, and below what the broker takes as one record."""

RETRY_AFTER_S = 5
"""What a caller is asked to wait when the broker is away: an embedded broker is back within that time."""

_MOST_FAULTS = 20  # a list that is wrong throughout is told so by its first faults, not by a megabyte of them
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Services:
    """What the routes work with; made by :func:`create_app`, started and stopped with the application."""

    sender: ingest.Sender
    cache: live.LatestVitals
    feed: live.Feed
    metrics: Metrics


class _Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_UTC_Z)


def create_app(
    data: DataDir,
    *,
    bootstrap_servers: str,
    clock: Callable[[], datetime],
    vitals_topic: str = VITALS.name,
    evaluations_topic: str = ALERT_EVALUATIONS.name,
    max_body_bytes: int = MAX_BODY_BYTES,
    answer_within_s: float = ingest.ANSWER_WITHIN_S,
) -> FastAPI:
    """The application over one data dir and one broker. It starts whether or not the broker is there."""
    cache = live.LatestVitals()
    metrics = Metrics(data, cache)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sender = ingest.Sender(bootstrap_servers, vitals_topic, answer_within_s)
        feed = live.Feed(cache, bootstrap_servers, evaluations_topic, clock)
        feed.start()
        app.state.services = Services(sender, cache, feed, metrics)
        try:
            yield
        finally:
            feed.stop()
            sender.close()

    app = FastAPI(
        title="Wardhouse gateway",
        description="Vital signs in and out. Not a medical device.",
        version="1",
        lifespan=lifespan,
        default_response_class=_Json,
    )
    # Without this a web page could reach the loopback address under a name of its own and read patients' data.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]"])
    problem.install(app)
    _add_ways_in(app, max_body_bytes)
    _add_ways_out(app, data, clock)
    _add_operations(app)
    return app


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _add_ways_in(app: FastAPI, max_body_bytes: int) -> None:
    contract = message.schema()
    body = {"oneOf": [contract, {"type": "array", "minItems": 1, "items": contract}]}

    @app.post(
        "/api/iot",
        status_code=202,
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}},
        responses={413: {}, 415: {}, 422: {}, 503: {}},
    )
    async def take_device_messages(request: Request) -> Response:
        """Take one device message or a list, and answer once Kafka has acknowledged every one of them.

        All or none: where one breaks the contract nothing is sent. Repeating a request is harmless, since a message
        that arrives twice under one message_id counts once.
        """
        # A web page of another origin may post plain text unasked, but JSON only after asking, which is refused.
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise Problem(415, "send application/json")
        content = await _body(request, max_body_bytes)
        services = _services(request)
        began = time.perf_counter()
        receipts = await _send(services, content)
        services.metrics.acknowledged.observe(time.perf_counter() - began)
        return _Json({"accepted": len(receipts), "messages": [asdict(receipt) for receipt in receipts]}, 202)


async def _body(request: Request, limit: int) -> bytes:
    """The whole body. Raises Problem as soon as it is known to be over the limit, without keeping the rest."""
    too_large = Problem(413, f"the body is larger than {limit} bytes; send fewer messages at a time")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


async def _send(services: Services, body: bytes) -> list[ingest.Receipt]:
    try:
        messages = ingest.parse(body)
    except ingest.UnreadableError as error:
        raise Problem(422, str(error)) from error
    records, faults = ingest.check(messages)
    if faults:
        services.metrics.messages.labels("refused").inc(len(messages))
        raise Problem(
            422,
            f"{len(faults)} of {len(messages)} messages break the contract vitals.v{message.SCHEMA_VERSION};"
            " nothing was sent",
            more={"errors": [asdict(fault) for fault in faults[:_MOST_FAULTS]]},
        )
    try:
        receipts = await services.sender.send(records)
    except ingest.BrokerUnavailableError as error:
        services.metrics.messages.labels("unavailable").inc(len(messages))
        raise Problem(503, f"{error}; send the same again", {"Retry-After": str(RETRY_AFTER_S)}) from error
    services.metrics.messages.labels("accepted").inc(len(messages))
    return receipts


def _add_ways_out(app: FastAPI, data: DataDir, clock: Callable[[], datetime]) -> None:
    # A patient_id is system/value, hence the path converter.
    @app.get("/api/patients/{patient_id:path}/vitals/latest", responses={404: {}})
    async def latest_vitals_of_a_patient(request: Request, patient_id: str) -> Response:
        """The latest valid value of each signal, within two seconds of its arrival."""
        patient = _services(request).cache.patient(patient_id)
        if patient is None:
            raise Problem(404, "nothing was received from this patient within the last day")
        return _Json(live.describe(patient))

    @app.get("/api/vitals/latest")
    async def latest_vitals(request: Request, unit: str | None = None) -> Response:
        """The latest vitals of every patient, or of those in one care unit."""
        return _Json({"patients": [live.describe(patient) for patient in _services(request).cache.patients(unit)]})

    @app.get("/api/patients/{patient_id:path}/vitals/series", responses={503: {}})
    def vitals_by_minute(
        patient_id: str,
        code: Annotated[str | None, Query(description="LOINC; every signal where it is left out")] = None,
        start: Annotated[AwareDatetime | None, Query(alias="from")] = None,
        stop: Annotated[AwareDatetime | None, Query(alias="to")] = None,
    ) -> Response:
        """Statistics by minute, for the last day where no span is given."""
        stop = stop or clock()
        start = start or stop - _DAY
        if not timedelta(0) < stop - start <= series.LONGEST:
            raise Problem(422, f"from must be before to, and the span at most {series.LONGEST.days} days")
        try:
            found = series.series(data, patient_id, code, start, stop)
        except TableMissingError as error:
            raise Problem(503, f"{error.table.full_name} has not been made yet", {"Retry-After": "60"}) from error
        return _Json({"patient_id": patient_id, "from": start, "to": stop, "resolution": "minute", "series": found})


def _add_operations(app: FastAPI) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        """Whether the process answers."""
        return _Json({"status": "ok"})

    @app.get("/readyz", responses={503: {}})
    async def readyz(request: Request) -> Response:
        """Whether it can do its work: the broker answers."""
        services = _services(request)
        checks = {"broker": services.feed.in_touch}
        body = {"ready": all(checks.values()), "checks": checks, "live_lag_records": services.cache.lag}
        return _Json(body, 200 if body["ready"] else 503)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """Counters and gauges in the text format of Prometheus."""
        return Response(generate_latest(_services(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)
