"""The gateway's HTTP interface: device messages and FHIR in, latest vitals and history out."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from socket import socket
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import AwareDatetime
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gateway import fhir_routes, ingest, live, mllp, problem, series
from gateway.body import read_body
from gateway.metrics import Metrics
from gateway.outbox import Outbox
from gateway.problem import Problem
from gateway.site import Site
from gateway.spool import Spool
from lakehouse import message
from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError
from lakehouse.topics import ALERT_EVALUATIONS

MAX_BODY_BYTES = 1024 * 1024
"""The largest body taken: some thousand messages, and below what the broker takes as one record."""

_MOST_FAULTS = 20  # a list that is wrong throughout is told so by its first faults, not by a megabyte of them
_DAY = timedelta(days=1)
_NOTHING_YET = {"description": "Nothing was received from this patient within the last day"}
_NO_TABLE = {"description": "The table has not been made yet"}


@dataclass(frozen=True)
class Services:
    """What the routes work with; made by :func:`create_app`, started and stopped with the application."""

    outbox: Outbox
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
    topics: Mapping[str, str] | None = None,
    site: Site | None = None,
    spool: Spool | None = None,
    mllp_listener: socket | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    answer_within_s: float = ingest.ANSWER_WITHIN_S,
) -> FastAPI:
    """The application over one data dir and one broker. It starts whether or not the broker is there.

    ``topics`` are the site's names of topics by declared name. The spool and the listening socket for MLLP are closed
    with the application.
    """
    names, site = topics or {}, site or Site()
    cache = live.LatestVitals()
    metrics = Metrics(data, cache, spool)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sender = ingest.Sender(bootstrap_servers, names, answer_within_s)
        outbox = Outbox(sender, spool, metrics)
        evaluations = names.get(ALERT_EVALUATIONS.name, ALERT_EVALUATIONS.name)
        feed = live.Feed(cache, bootstrap_servers, evaluations, clock)
        app.state.services = Services(outbox, cache, feed, metrics)
        feed.start()
        outbox.start()
        try:
            async with mllp.serve(mllp_listener, mllp.Intake(outbox, site, clock, metrics)):
                yield
        finally:
            feed.stop()
            await outbox.stop()
            sender.close()
            if spool is not None:
                spool.close()

    # Its pages load nothing from elsewhere: a hospital's network may not let them.
    app = FastAPIOffline(
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
    fhir_routes.add(app, lambda request: _services(request).outbox, site, clock, max_body_bytes)
    _add_ways_out(app, data, clock)
    _add_operations(app)
    return app


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _add_ways_in(app: FastAPI, max_body_bytes: int) -> None:
    contract = message.schema()
    body = {
        "application/json": {"schema": {"oneOf": [contract, {"type": "array", "minItems": 1, "items": contract}]}},
        "application/x-ndjson": {"schema": {"type": "string", "description": "A message a line."}},
    }

    @app.post(
        "/api/iot",
        status_code=202,
        tags=["Ways in"],
        openapi_extra={"requestBody": {"required": True, "content": body}},
        responses={
            413: {"description": "The body is larger than 1 MiB"},
            415: {"description": "The body is not declared as JSON"},
            422: {"description": "Messages break the contract; each is named, and nothing was sent"},
            503: {"description": "Kafka did not acknowledge: send the same again"},
        },
    )
    async def take_device_messages(request: Request) -> Response:
        """Take one device message or a list, and answer once Kafka has acknowledged every one of them.

        All or none: where one breaks the contract nothing is sent. Repeating a request is harmless, since a message
        that arrives twice under one message_id counts once. A message without partition and offset is on the gateway's
        spool, synced to disk, and goes to Kafka when the broker is back.
        """
        # A web page of another origin may post plain text unasked, but JSON only after asking, which is refused.
        content, kind = await read_body(request, max_body_bytes, tuple(body))
        services = _services(request)
        receipts = await _send(services, content, lines=kind == "application/x-ndjson")
        return _Json({"accepted": len(receipts), "messages": [asdict(receipt) for receipt in receipts]}, 202)


async def _send(services: Services, body: bytes, *, lines: bool) -> list[ingest.Receipt]:
    try:
        messages = ingest.parse_lines(body) if lines else ingest.parse(body)
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
        return await services.outbox.take(records)
    except ingest.BrokerUnavailableError as error:
        raise problem.unavailable(error) from error


def _add_ways_out(app: FastAPI, data: DataDir, clock: Callable[[], datetime]) -> None:
    # A patient_id is system/value, hence the path converter.
    @app.get("/api/patients/{patient_id:path}/vitals/latest", tags=["Ways out"], responses={404: _NOTHING_YET})
    async def latest_vitals_of_a_patient(request: Request, patient_id: str) -> Response:
        """The latest valid value of each signal, within two seconds of its arrival."""
        patient = _services(request).cache.patient(patient_id)
        if patient is None:
            raise Problem(404, "nothing was received from this patient within the last day")
        return _Json(live.describe(patient))

    @app.get("/api/vitals/latest", tags=["Ways out"])
    async def latest_vitals(request: Request, unit: str | None = None) -> Response:
        """The latest vitals of every patient, or of those in one care unit."""
        return _Json({"patients": [live.describe(patient) for patient in _services(request).cache.patients(unit)]})

    @app.get("/api/patients/{patient_id:path}/vitals/series", tags=["Ways out"], responses={503: _NO_TABLE})
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
    @app.get("/healthz", tags=["Operations"])
    async def healthz() -> Response:
        """Whether the process answers."""
        return _Json({"status": "ok"})

    @app.get("/readyz", tags=["Operations"], responses={503: {"description": "It cannot"}})
    async def readyz(request: Request) -> Response:
        """Whether it can do its work: the broker answers, or a spool takes what is sent until it does."""
        services = _services(request)
        checks = {"broker": services.feed.in_touch}
        # With a spool what is sent is taken without the broker: a load balancer must not turn the senders away.
        ready = all(checks.values()) or services.outbox.can_spool
        body = {"ready": ready, "checks": checks, "live_lag_records": services.cache.lag}
        return _Json(body, 200 if body["ready"] else 503)

    @app.get("/metrics", tags=["Operations"])
    def metrics(request: Request) -> Response:
        """Counters and gauges in the text format of Prometheus."""
        return Response(generate_latest(_services(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)
