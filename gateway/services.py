"""What the routes work with while the application runs."""

from dataclasses import dataclass

from fastapi.requests import HTTPConnection

from gateway.ingest import Sender
from gateway.live import Feed, LatestVitals
from gateway.metrics import Counted, Metrics
from gateway.mqtt import Bridge
from gateway.outbox import Outbox, Takes
from gateway.sight import Places
from gateway.trail import Trail


@dataclass(frozen=True, kw_only=True)
class Common:
    """What the guard, the way in for devices and operations ask of any application."""

    outbox: Takes
    metrics: Counted
    trail: Trail
    places: Places


@dataclass(frozen=True, kw_only=True)
class Services(Common):
    """Made by ``create_app``, started and stopped with the application.

    ``outbox`` may put records on the spool; ``sender`` never does. Without MQTT there is no ``bridge``.
    """

    outbox: Outbox
    metrics: Metrics
    sender: Sender
    cache: LatestVitals
    feed: Feed
    bridge: Bridge | None = None


def services(connection: HTTPConnection) -> Services:
    """Those of the gateway that serves a request or a WebSocket."""
    found: Services = connection.app.state.services
    return found


def common(connection: HTTPConnection) -> Common:
    """What is there whichever application serves."""
    found: Common = connection.app.state.services
    return found
