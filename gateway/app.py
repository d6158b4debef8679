"""The gateway's HTTP interface: its parts put together, device messages in, and operations."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from socket import socket

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gateway import (
    alert_routes,
    description,
    fhir_routes,
    ingest,
    keys,
    live,
    mllp,
    mqtt,
    patient_routes,
    problem,
    ready,
    research_routes,
    scopes,
    stream,
    stream_routes,
)
from gateway.answer import Json
from gateway.body import read_body
from gateway.guard import Access, Guard
from gateway.keys import Keys
from gateway.metrics import Metrics
from gateway.orders import Orders
from gateway.outbox import Outbox
from gateway.problem import Problem
from gateway.rate import Limiter
from gateway.refused import Refusals
from gateway.services import Services, services
from gateway.sight import Places
from gateway.site import Site
from gateway.spool import Spool
from gateway.trail import SPOOL_BYTES, Trail
from lakehouse import message
from lakehouse.datadir import DataDir
from lakehouse.deidentify import Key
from lakehouse.topics import ALERT_EVALUATIONS

MAX_BODY_BYTES = 1024 * 1024
"""The largest body taken: some thousand messages, and below what the broker takes as one record."""

_MOST_FAULTS = 20  # a list that is wrong throughout is told so by its first faults, not by a megabyte of them


def create_app(
    data: DataDir,
    *,
    bootstrap_servers: str,
    clock: Callable[[], datetime],
    topics: Mapping[str, str] | None = None,
    site: Site | None = None,
    access: Access | None = None,
    hosts: Sequence[str] = (),
    pseudonyms: Key | None = None,
    spool: Spool | None = None,
    mllp_listener: socket | None = None,
    mqtt_source: mqtt.Source | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    answer_within_s: float = ingest.ANSWER_WITHIN_S,
    most_waiting: int = stream.MOST_WAITING,
    heartbeat_s: float = stream.HEARTBEAT_S,
) -> FastAPI:
    """The application over one data dir and one broker. It starts whether or not the broker is there.

    ``topics`` are the site's names of topics by declared name; ``most_waiting`` events may wait for one listener of the
    live stream, which hears something each ``heartbeat_s``. ``access`` says how callers are known: by the keys of the
    data dir unless it is given. ``hosts`` are names beside the loopback's under which the gateway is called. By the key
    ``pseudonyms`` cohort tables are de-identified for research. The spool and the listening socket for MLLP are closed
    with the application. With ``mqtt_source`` it reads from an MQTT broker as well.
    """
    names, site = topics or {}, site or Site()
    cache = live.LatestVitals()
    metrics = Metrics(data, cache, spool)
    bridge = None if mqtt_source is None else mqtt.Bridge(mqtt_source, metrics)
    guard = access or Access(Keys(keys.file_of(data), clock))
    hub = stream.Hub(stream.Source(bootstrap_servers, names, cache), most_waiting, heartbeat_s)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sender = ingest.Sender(bootstrap_servers, names, answer_within_s)
        outbox = Outbox(sender, spool, metrics)
        evaluations = names.get(ALERT_EVALUATIONS.name, ALERT_EVALUATIONS.name)
        feed = live.Feed(cache, bootstrap_servers, evaluations, clock)
        notes = Spool(data.access / "audit-spool", SPOOL_BYTES)
        witness = ingest.Sender(bootstrap_servers, names, answer_within_s)
        record = Outbox(witness, notes, metrics.audit, disk_first=True)
        app.state.services = Services(outbox, sender, cache, feed, metrics, Trail(record), Places(data, cache), bridge)
        feed.start()
        outbox.start()
        record.start()
        try:
            async with (
                mllp.serve(mllp_listener, mllp.Intake(outbox, site, clock, metrics)),
                mqtt.serve(bridge, mqtt.Intake(outbox, Refusals(data.refused), clock, metrics)),
            ):
                yield
        finally:
            await asyncio.to_thread(hub.close)
            feed.stop()
            await outbox.stop()
            await record.stop()
            sender.close()
            witness.close()
            notes.close()
            if spool is not None:
                spool.close()

    # Its pages load nothing from elsewhere: a hospital's network may not let them.
    app = FastAPIOffline(
        title="Wardhouse gateway",
        description="Vital signs in and out. Not a medical device.",
        version="1",
        lifespan=lifespan,
        default_response_class=Json,
    )
    app.add_middleware(Guard, access=guard, limiter=Limiter(time.monotonic))
    # Without this a web page could reach the loopback address under a name of its own and read patients' data.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", *hosts])
    problem.install(app)
    _add_ways_in(app, max_body_bytes)
    fhir_routes.add(app, lambda request: services(request).outbox, site, clock, max_body_bytes)
    patient_routes.add(app, data, clock)
    research_routes.add(app, data, clock, pseudonyms)
    alert_routes.add(app, data, Orders(bootstrap_servers, names, data))
    stream_routes.add(app, hub, hosts)
    app.state.hub, app.state.end_streams = hub, hub.close
    _add_operations(app, data)
    scopes.check(app.routes)
    description.install(app)
    return app


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
        running = services(request)
        receipts = await _send(running, content, lines=kind == "application/x-ndjson")
        return Json({"accepted": len(receipts), "messages": [asdict(receipt) for receipt in receipts]}, 202)


async def _send(running: Services, body: bytes, *, lines: bool) -> list[ingest.Receipt]:
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


def _add_operations(app: FastAPI, data: DataDir) -> None:
    @app.get("/healthz", tags=["Operations"])
    async def healthz() -> Response:
        """Whether the process answers."""
        return Json({"status": "ok"})

    @app.get("/readyz", tags=["Operations"], responses={503: {"description": "It cannot"}})
    def readyz(request: Request) -> Response:
        """Whether it can do its work: broker, tables, live values; or a spool that takes what is sent meanwhile."""
        body = ready.readiness(data, services(request))
        return Json(body, 200 if body["ready"] else 503)

    @app.get("/metrics", tags=["Operations"], response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        """Counters and gauges in the text format of Prometheus."""
        return Response(generate_latest(services(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)
