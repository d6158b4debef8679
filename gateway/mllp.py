"""HL7 v2 over MLLP: framing (pure), and a server that answers each message once it is safe.

A frame is ``<VT> message <FS><CR>``. The messages of a connection are handled one after the other, so that those of one
sender keep their order.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime

from gateway import hl7v2
from gateway.hl7v2 import RejectedError
from gateway.hl7v2_records import records
from gateway.ingest import BrokerUnavailableError
from gateway.metrics import Metrics
from gateway.outbox import Outbox
from gateway.site import Site

START, END, RETURN = b"\x0b", b"\x1c", b"\r"

MAX_MESSAGE_BYTES = 1024 * 1024
"""The longest message taken, as over HTTP."""

_MOST_CONNECTIONS = 200  # a few for each sending system; what is more is a fault of one of them
_CHUNK = 64 * 1024
_FINISH_S = 10.0  # what an acknowledgement may take when the gateway stops
_UNKNOWN = "207"  # HL7 table 0357: application internal error, for which the message may be sent again

_log = logging.getLogger(__name__)


class OverlongError(Exception):
    """A frame is longer than the limit; ``head`` is its beginning."""

    def __init__(self, head: bytes, limit: int) -> None:
        super().__init__(f"the message is longer than {limit} bytes")
        self.head = head


class Framer:
    """Cuts a stream of bytes into messages, however it arrives.

    What stands outside a frame is left out. A frame that begins inside another replaces it: its sender broke off, and
    was not answered.
    """

    def __init__(self, limit: int = MAX_MESSAGE_BYTES) -> None:
        self._limit = limit
        self._waiting = bytearray()
        self._inside = False
        self._seen = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The messages that end in this chunk. Raises OverlongError, behind them, for one over the limit."""
        self._waiting += chunk
        while self._enter():
            end = self._waiting.find(END, self._seen)
            if (len(self._waiting) if end < 0 else end) > self._limit:
                raise OverlongError(bytes(self._waiting[: self._limit]), self._limit)
            if end < 0:
                self._seen = len(self._waiting)
                return
            message = bytes(self._waiting[:end])
            del self._waiting[: end + 1]
            self._inside = False
            yield message[message.rfind(START) + 1 :]

    def _enter(self) -> bool:
        """Whether a frame is open, after what stands before the next one is gone."""
        if not self._inside:
            start = self._waiting.find(START)
            if start < 0:
                self._waiting.clear()
                return False
            del self._waiting[: start + 1]
            self._inside, self._seen = True, 0
        return True


class Intake:
    """Takes one HL7 v2 message and answers it."""

    def __init__(self, outbox: Outbox, site: Site, clock: Callable[[], datetime], metrics: Metrics) -> None:
        self._outbox, self._site, self._clock, self._metrics = outbox, site, clock, metrics

    async def answer(self, raw: bytes) -> bytes:
        """AA when Kafka or the spool has all of the message; AE or AR with the reason otherwise."""
        now = self._clock()
        header = hl7v2.Header()
        try:
            message = hl7v2.read(raw)
            header = message.header
            await self._outbox.take(records(message, self._site, now))
        except RejectedError as error:
            self._metrics.messages.labels("refused").inc()
            told = error.header if header == hl7v2.Header() else header
            return hl7v2.acknowledgement(told, error.code, now, str(error), error.condition)
        except BrokerUnavailableError as error:
            return hl7v2.acknowledgement(header, "AE", now, f"{error}; send the same again", _UNKNOWN)
        return hl7v2.acknowledgement(header, "AA", now)

    def overlong(self, error: OverlongError) -> bytes:
        """The answer to a message that is too long, before its connection is closed."""
        self._metrics.messages.labels("refused").inc()
        try:
            header = hl7v2.read_header(error.head)
        except RejectedError as rejected:
            header = rejected.header
        return hl7v2.acknowledgement(header, "AE", self._clock(), str(error))


@asynccontextmanager
async def serve(listener: socket.socket | None, intake: Intake) -> AsyncIterator[None]:
    """Serve MLLP on a listening socket, if there is one; messages under way are answered at the end."""
    if listener is None:
        yield
        return
    connections = _Connections(intake)
    server = await asyncio.start_server(connections.run, sock=listener)
    try:
        yield
    finally:
        server.close()
        await connections.finish()


class _Connections:
    """The connections that are open. One that waits for a message can be closed; one that has to answer cannot."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._open: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as one
        if len(self._open) >= _MOST_CONNECTIONS or self._stopping:
            _log.warning("MLLP: a connection was refused, %d are open", len(self._open))
            writer.close()
            return
        self._open.add(task)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            await self._converse(task, reader, writer)
        except (ConnectionError, TimeoutError):
            _log.info("MLLP: a sender has closed its connection")
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            self._open.discard(task)
            self._busy.discard(task)
            writer.close()

    async def _converse(
        self, task: "asyncio.Task[None]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        framer = Framer()
        while not self._stopping and (chunk := await reader.read(_CHUNK)):
            self._busy.add(task)
            try:
                for raw in framer.feed(chunk):
                    await self._send(writer, await self._intake.answer(raw))
            except OverlongError as error:
                await self._send(writer, self._intake.overlong(error))
                return
            self._busy.discard(task)

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(START + answer + END + RETURN)
        await writer.drain()

    async def finish(self) -> None:
        """Close what waits, let the others answer, and close them too."""
        self._stopping = True
        for task in self._open - self._busy:
            task.cancel()
        if self._open:
            _, late = await asyncio.wait(set(self._open), timeout=_FINISH_S)
            for task in late:
                task.cancel()
