"""The edge: device messages taken on a ward's own machine, kept on its disk, and sent on to the gateway upstream.

It answers as the gateway does, once a message is synced to the spool; a message leaves the spool when upstream has
acknowledged it, or refused it for good. While nothing reaches upstream limits are evaluated here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from alerting.lifecycle import Event
from alerting.message_text import clean
from alerting.pack import Pack
from alerting.words import aware, count, instant
from gateway import application, description, device_routes, keys, scopes
from gateway.answer import Json
from gateway.guard import Access, visit
from gateway.ingest import Receipt, Record
from gateway.journal import Journal
from gateway.keys import Keys
from gateway.live import LatestVitals
from gateway.local_alerts import LocalAlerts
from gateway.metrics import SECONDS, Counted, Counts
from gateway.outbox import Outbox
from gateway.refused import Refusals
from gateway.services import Common
from gateway.sight import Places
from gateway.spool import Spool
from gateway.trail import Trail
from gateway.upstream import Link, Target, Upstream, Way
from lakehouse.datadir import DataDir

LOCAL_AFTER = timedelta(seconds=10)
"""How long nothing may have reached upstream before limits are evaluated here: some values of a monitor."""

_TICK_S = 1.0
_SAFE_WHEN = """
Take one device message or a list, and answer once every one of them is synced to this machine's disk.

All or none: where one breaks the contract nothing is taken. They go to the gateway upstream in the order in which they
were taken. Repeating a request is harmless, since a message that arrives twice under one message_id counts once.
"""
_READY_WHEN = """
Whether it takes messages, which it does while the spool has room. Beside that: how the link to upstream stands and
since when, what waits, and whether limits are evaluated here.
"""

log = logging.getLogger(__name__)


class EdgeMetrics(Counted):
    """The counters of an edge and the registry in which it all is found."""

    def __init__(self, spool: Spool) -> None:
        self.registry = CollectorRegistry()
        self.messages = Counter(
            "ward_edge_messages",
            "Messages, by outcome: accepted, refused (what breaks the contract), unavailable (no room), spooled",
            ["outcome"],
            registry=self.registry,
        )
        self.acknowledged = Histogram(
            "ward_edge_acknowledge_seconds",
            "From the request's last byte until it is on the disk",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.refused = Counter(
            "ward_edge_refused", "Requests that the guard refused, by status", ["status"], registry=self.registry
        )
        self.answered = Histogram(
            "ward_edge_answer_seconds",
            "From a request to the beginning of its answer, by status; without /healthz, /readyz and /metrics",
            ["status"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.forwarded = Counter(
            "ward_edge_forwarded",
            "Messages that upstream answered, by outcome: acknowledged, refused (kept in a folder)",
            ["outcome"],
            registry=self.registry,
        )
        size = Gauge("ward_edge_spool_bytes", "Messages that wait for upstream", registry=self.registry)
        size.set_function(lambda: spool.bytes)

    def watch(self, upstream: Upstream, local: LocalAlerts) -> None:
        """Show how the link stands and what is evaluated here as well."""
        link = Gauge("ward_edge_link_up", "1 while upstream acknowledges", registry=self.registry)
        link.set_function(lambda: upstream.link.way is Way.UP)
        evaluates = Gauge("ward_edge_local", "1 while limits are evaluated here", registry=self.registry)
        evaluates.set_function(lambda: local.since is not None)
        unusable = Gauge("ward_edge_unevaluated", "Messages that no limit could be held to", registry=self.registry)
        unusable.set_function(lambda: local.unusable)


class Intake:
    """Where the way in hands its records over: to the spool, and to what evaluates limits here."""

    def __init__(self, outbox: Outbox, local: LocalAlerts, clock: Callable[[], datetime]) -> None:
        self._outbox, self._local, self._clock = outbox, local, clock

    async def take(self, records: Sequence[Record]) -> list[Receipt]:
        """Have all records on the disk. Raises BrokerUnavailableError.

        Limits are held to what the disk has no room for as well: it was measured.
        """
        try:
            return await self._outbox.take(records)
        finally:
            self._local.heard(records, _ms(self._clock()))


class Watch:
    """Says when limits are evaluated here: from ``after`` without upstream until it has everything again.

    What waits from an earlier run counts as time without upstream, since new values stand behind it. ``say`` is given
    what changes, in words.
    """

    def __init__(
        self,
        upstream: Upstream,
        spool: Spool,
        local: LocalAlerts,
        clock: Callable[[], datetime],
        after: timedelta,
        say: Callable[[str], None],
    ) -> None:
        self._upstream, self._spool, self._local = upstream, spool, local
        self._clock, self._after, self._say = clock, after, say
        self._behind_since: datetime | None = None if spool.empty else clock()
        self._told: tuple[Way, str | None] = (Way.UNTRIED, None)

    def look(self) -> None:
        """Look once; to be called each second."""
        now, link = self._clock(), self._upstream.link
        self._tell(link)
        if self._spool.empty:
            self._behind_since = None
            self._end(now)
        elif link.way in (Way.DOWN, Way.DENIED) and self._behind_since is None:
            self._behind_since = link.since
        if self._behind_since is not None and now - self._behind_since >= self._after:
            if self._local.since is None:
                self._say(f"limits are evaluated here: upstream is behind since {instant(self._behind_since)}")
            self._local.begin(_ms(now))
        self._local.tick(_ms(now))

    def _tell(self, link: Link) -> None:
        if (link.way, link.fault) != self._told:
            self._told = (link.way, link.fault)
            fault = f": {link.fault}" if link.fault else ""
            self._say(f"link {link.way} since {instant(link.since)}{fault}")

    def _end(self, now: datetime) -> None:
        raised = self._local.end(_ms(now))
        if raised is None:
            return
        self._say(
            f"upstream has everything, and limits are evaluated there alone;"
            f" {count(len(raised.alerts), 'local alert')} since {instant(raised.began)}"
        )
        for one in raised.alerts:
            self._say(f"raised here: {one['title']}, {clean(one['patient_id'])}, {instant(one['raised_at'])}")


@dataclass(frozen=True, kw_only=True)
class EdgeServices(Common):
    """Made by ``create_app``, started and stopped with the application."""

    upstream: Upstream
    spool: Spool
    local: LocalAlerts


def edge_services(request: Request) -> EdgeServices:
    """Those of the edge that serves a request."""
    found: EdgeServices = request.app.state.services
    return found


def create_app(
    data: DataDir,
    target: Target,
    *,
    spool: Spool,
    pack: Pack,
    clock: Callable[[], datetime],
    refusals: Refusals,
    tell: Callable[[Event], None],
    say: Callable[[str], None],
    access: Access | None = None,
    hosts: Sequence[str] = (),
    local_after: timedelta = LOCAL_AFTER,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    max_body_bytes: int = device_routes.MAX_BODY_BYTES,
) -> FastAPI:
    """The application before one upstream, with one spool, which is closed with it.

    ``tell`` is given each transition of a local alert, ``say`` what happens to the link. Callers are known by the keys
    of the data dir unless ``access`` says otherwise, and audit records are kept in a journal there. ``sleep`` waits by
    the clock.
    """
    metrics, local = EdgeMetrics(spool), LocalAlerts(pack, tell)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        upstream = Upstream(target, refusals, metrics.forwarded, clock, sleep)
        outbox = Outbox(upstream, spool, Counts(metrics.messages, metrics.acknowledged), disk_first=True)
        app.state.services = EdgeServices(
            outbox=Intake(outbox, local, clock),
            metrics=metrics,
            trail=Trail(Journal(data.access / "audit", clock)),
            places=Places(data, LatestVitals()),
            upstream=upstream,
            spool=spool,
            local=local,
        )
        metrics.watch(upstream, local)
        watching = asyncio.get_running_loop().create_task(
            _look_on(Watch(upstream, spool, local, clock, local_after, say), sleep)
        )
        outbox.start()
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await outbox.stop()
            await upstream.close()
            spool.close()

    guard = access or Access(Keys(keys.file_of(data), clock))
    app = application.make(
        "Wardhouse edge", "Vital signs of a ward, on their way. Not a medical device.", lifespan, guard, hosts
    )
    device_routes.add(app, max_body_bytes, _SAFE_WHEN)
    _add_local_alerts(app)
    application.add_operations(app, lambda request: readiness(edge_services(request), clock()), _READY_WHEN)
    scopes.check(app.routes)
    description.install(app)
    return app


async def _look_on(watch: Watch, sleep: Callable[[float], Awaitable[None]]) -> None:
    while True:
        try:
            watch.look()
        except Exception:
            # Whatever it is, values must go on to upstream, and the next look may succeed.
            log.exception("edge: limits could not be evaluated")
        await sleep(_TICK_S)


def _add_local_alerts(app: FastAPI) -> None:
    @app.get("/api/local/alerts", tags=["Local alerts"])
    async def list_local_alerts(
        request: Request, unit: Annotated[str | None, Query(description="Care unit.")] = None
    ) -> Response:
        """Alerts that are open on this machine, the newest first, and what it raised the last time without upstream.

        Limits are evaluated here only while nothing reaches upstream; ``active`` says whether they are. Nobody is told
        of these alerts, and they are not sent on.
        """
        local, units = edge_services(request).local, visit(request).caller.units

        def seen(alerts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
            places = [(one, one["location"]["unit"]) for one in alerts]
            return [one for one, place in places if (units is None or place in units) and unit in (None, place)]

        last = local.last
        return Json(
            {
                "local": True,
                "active": local.since is not None,
                "since": _instant(local.since),
                "pack": local.pack,
                "alerts": seen(local.open()),
                "last": last and {"began": aware(last.began), "ended": aware(last.ended), "raised": seen(last.alerts)},
            }
        )


def readiness(running: EdgeServices, now: datetime) -> dict[str, Any]:
    """What ``/readyz`` answers: ready while it takes messages, whatever the link does."""
    spool, local, link = running.spool, running.local, running.upstream.link
    return {
        "ready": not spool.full,
        "link": _link(link),
        "spool": {"bytes": spool.bytes, "limit_bytes": spool.limit, **_oldest(spool, now)},
        "local": {"active": local.since is not None, "since": _instant(local.since)},
    }


def _link(link: Link) -> dict[str, Any]:
    return {"state": link.way, "since": link.since, "fault": link.fault}


def _oldest(spool: Spool, now: datetime) -> dict[str, Any]:
    """The oldest message that waits, by the clock of its device."""
    batch = spool.oldest(1)
    if batch is None:
        return {"oldest_observed_at": None, "oldest_age_s": None}
    observed_at = orjson.loads(batch.records[0].value)["observed_at"]
    try:
        age_s = round((now - datetime.fromisoformat(observed_at)).total_seconds(), 3)
    except ValueError:
        age_s = None
    return {"oldest_observed_at": observed_at, "oldest_age_s": age_s}


def _instant(at: int | None) -> datetime | None:
    return None if at is None else aware(at)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
