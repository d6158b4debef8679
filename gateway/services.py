"""What the routes work with while the application runs."""

from dataclasses import dataclass

from fastapi.requests import HTTPConnection

from gateway.ingest import Sender
from gateway.live import Feed, LatestVitals
from gateway.metrics import Metrics
from gateway.mqtt import Bridge
from gateway.outbox import Outbox
from gateway.sight import Places
from gateway.trail import Trail


@dataclass(frozen=True)
class Services:
    """Made by ``create_app``, started and stopped with the application.

    ``outbox`` may put records on the spool; ``sender`` never does. Without MQTT there is no ``bridge``.
    """

    outbox: Outbox
    sender: Sender
    cache: LatestVitals
    feed: Feed
    metrics: Metrics
    trail: Trail
    places: Places
    bridge: Bridge | None = None


def services(connection: HTTPConnection) -> Services:
    """Those of the application that serves a request or a WebSocket."""
    found: Services = connection.app.state.services
    return found
