"""Where every way in hands its records over: to Kafka, or to the spool where there is one and the broker is away."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from gateway.ingest import BrokerUnavailableError, Receipt, Record
from gateway.metrics import Counts, Metrics
from gateway.spool import Spool, SpoolFullError

log = logging.getLogger(__name__)

_BATCH = 500
_LONG_PAUSE_S = 5.0
_PAUSE_S = 0.5  # between attempts to empty the spool; each of them waits for the broker as long as a request would


class Sends(Protocol):
    """Sends records on, and answers when they are safe there."""

    async def send(self, records: Sequence[Record]) -> list[Receipt]:
        """Raises BrokerUnavailableError where that of any is not known."""


class Takes(Protocol):
    """Where records are handed over."""

    async def take(self, records: Sequence[Record]) -> list[Receipt]:
        """Have all records safe. Raises BrokerUnavailableError."""


class Outbox:
    """Takes records and answers when they are safe. :meth:`start` and :meth:`stop` belong to one event loop.

    With ``disk_first`` every record goes to the spool, and from there to the broker with whatever waits beside it: for
    what is read by nobody at once, and must not make its sender wait for the broker.
    """

    def __init__(
        self,
        sender: Sends,
        spool: Spool | None,
        metrics: Metrics | Counts,
        *,
        disk_first: bool = False,
    ) -> None:
        self._sender, self._spool, self._metrics, self._disk_first = sender, spool, metrics, disk_first
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send what the spool holds, left by this gateway or by one before."""
        if self._spool is not None:
            self._filled.set()
            self._task = asyncio.get_running_loop().create_task(self._empty(self._spool))

    async def stop(self) -> None:
        """Stop sending from the spool; what it holds stays."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def can_spool(self) -> bool:
        """Whether records are taken while the broker is away."""
        return self._spool is not None and not self._spool.full

    async def take(self, records: Sequence[Record]) -> list[Receipt]:
        """Have all records acknowledged, or spooled. Raises BrokerUnavailableError where neither can be.

        While the spool holds anything new records go behind it, so that those of one patient keep their order.
        """
        began = time.perf_counter()
        spool = self._spool
        try:
            if spool is not None and (self._disk_first or not spool.empty):
                receipts = await self._put(spool, records)
            else:
                receipts = await self._sent(records)
        except BrokerUnavailableError:
            self._metrics.messages.labels("unavailable").inc(len(records))
            raise
        self._metrics.acknowledged.observe(time.perf_counter() - began)
        self._metrics.messages.labels("accepted").inc(len(records))
        return receipts

    async def _sent(self, records: Sequence[Record]) -> list[Receipt]:
        try:
            return await self._sender.send(records)
        except BrokerUnavailableError:
            if self._spool is None:
                raise
            return await self._put(self._spool, records)

    async def _put(self, spool: Spool, records: Sequence[Record]) -> list[Receipt]:
        try:
            await asyncio.to_thread(spool.append, records)
        except SpoolFullError as error:
            # A spool that stands before everything may be full while the broker is there.
            raise BrokerUnavailableError(f"{'' if self._disk_first else 'the broker is away, and '}{error}") from error
        self._metrics.messages.labels("spooled").inc(len(records))
        self._filled.set()
        return [Receipt(record.message_id, None, None) for record in records]

    async def _empty(self, spool: Spool) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while not spool.empty:
                try:
                    await self._send_oldest(spool)
                except BrokerUnavailableError:
                    await asyncio.sleep(_PAUSE_S)
                except OSError as error:
                    # The disk may come back as the broker does; until then what is on it waits.
                    log.error("the spool cannot be read: %s", error)
                    await asyncio.sleep(_LONG_PAUSE_S)

    async def _send_oldest(self, spool: Spool) -> None:
        batch = await asyncio.to_thread(spool.oldest, _BATCH)
        if batch is not None:
            await self._sender.send(batch.records)
            await asyncio.to_thread(spool.sent, batch)
