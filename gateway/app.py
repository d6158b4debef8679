"""The gateway's HTTP interface: its parts put together, device messages in, and operations."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from socket import socket

from fastapi import FastAPI

from gateway import (
    alert_routes,
    application,
    description,
    device_routes,
    fhir_routes,
    ingest,
    keys,
    live,
    mllp,
    mqtt,
    patient_routes,
    ready,
    research_routes,
    scopes,
    stream,
    stream_routes,
)
from gateway.guard import Access
from gateway.keys import Keys
from gateway.metrics import Metrics
from gateway.orders import Orders
from gateway.outbox import Outbox
from gateway.refused import Refusals
from gateway.services import Services, services
from gateway.sight import Places
from gateway.site import Site
from gateway.spool import Spool
from gateway.trail import SPOOL_BYTES, Trail
from lakehouse.datadir import DataDir
from lakehouse.deidentify import Key
from lakehouse.topics import ALERT_EVALUATIONS

_SAFE_WHEN = """
Take one device message or a list, and answer once Kafka has acknowledged every one of them.

All or none: where one breaks the contract nothing is sent. Repeating a request is harmless, since a message that
arrives twice under one message_id counts once. A message without partition and offset is on the gateway's spool, synced
to disk, and goes to Kafka when the broker is back.
"""
_READY_WHEN = "Whether it can do its work: broker, tables, live values; or a spool that takes what is sent meanwhile."


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
    max_body_bytes: int = device_routes.MAX_BODY_BYTES,
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
        app.state.services = Services(
            outbox=outbox,
            metrics=metrics,
            trail=Trail(record),
            places=Places(data, cache),
            sender=sender,
            cache=cache,
            feed=feed,
            bridge=bridge,
        )
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

    app = application.make("Wardhouse gateway", "Vital signs in and out. Not a medical device.", lifespan, guard, hosts)
    device_routes.add(app, max_body_bytes, _SAFE_WHEN)
    fhir_routes.add(app, lambda request: services(request).outbox, site, clock, max_body_bytes)
    patient_routes.add(app, data, clock)
    research_routes.add(app, data, clock, pseudonyms)
    alert_routes.add(app, data, Orders(bootstrap_servers, names, data))
    stream_routes.add(app, hub, hosts)
    app.state.hub, app.state.end_streams = hub, hub.close
    application.add_operations(app, lambda request: ready.readiness(data, services(request)), _READY_WHEN)
    scopes.check(app.routes)
    description.install(app)
    return app
