"""The gateway's audit: one record a request, safe before its answer leaves."""

import logging

from gateway.ingest import BrokerUnavailableError, Record
from gateway.outbox import Takes
from lakehouse.audit import Event, encode
from lakehouse.topics import AUDIT

log = logging.getLogger(__name__)

SPOOL_BYTES = 256 * 1024 * 1024
"""Some 700,000 records: a ward's reads of days, while the broker is away."""


class UnrecordedError(RuntimeError):
    """A record is not on the disk."""


class Trail:
    """Keeps records by an outbox of their own, so that what devices send never waits behind them."""

    def __init__(self, outbox: Takes) -> None:
        self._outbox = outbox

    async def keep(self, event: Event) -> None:
        """Have a record on the disk, from where it goes to the broker. Raises UnrecordedError."""
        record = Record(event.event_id, event.event_id.encode(), encode(event), AUDIT.name)
        try:
            await self._outbox.take([record])
        except (BrokerUnavailableError, OSError) as error:
            log.error("audit: a record of %s could not be kept: %s", event.action, error)
            raise UnrecordedError(str(error)) from error
