"""The link from an edge to the gateway upstream: batches in order, each sent until it is answered.

What upstream refuses for good is kept in a folder with its reason, and the rest of its batch goes on. Any other answer
than an acknowledgement is a fault of the link, which removes nothing.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import orjson
from prometheus_client import Counter

from gateway.device_routes import MAX_BODY_BYTES
from gateway.ingest import BrokerUnavailableError, Receipt, Record
from gateway.problem import MEDIA_TYPE
from gateway.refused import Refusals

ANSWER_S = 10.0
"""What upstream may take for an answer: a second more than its gateway gives itself."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
"""Between attempts; each is twice the one before. Upstream may ask for a longer one, up to a minute."""

DENIED_PAUSE_S = 60.0
"""After a key was refused: it is tried again when its file has another one, or after this time."""

_LONGEST_ASKED_S = 60.0
_LOOK_S = 1.0
_CONNECT_S = 3.0

Sleep = Callable[[float], Awaitable[None]]


class UpstreamError(ValueError):
    """Upstream cannot be used as it was named; the text says what to do."""


class UpstreamUnavailableError(BrokerUnavailableError):
    """Upstream did not acknowledge."""


class Way(StrEnum):
    """How the link stands."""

    UNTRIED = "untried"
    UP = "up"
    DOWN = "down"
    DENIED = "denied"
    """Upstream is there and does not take this key."""


@dataclass(frozen=True)
class Link:
    """How the link stands, since when, and what was wrong at the last attempt."""

    way: Way
    since: datetime
    fault: str | None = None


@dataclass(frozen=True)
class Target:
    """Where upstream is, the file of the key it is shown, and the certificates that its own must lead to."""

    url: str
    key_file: Path
    tls: ssl.SSLContext

    def key(self) -> str:
        """The key as it is in the file now. Raises UpstreamError."""
        try:
            found = self.key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UpstreamError(f"the key file {self.key_file} cannot be read: {_reason(error)}") from error
        if not found or not found.isascii() or len(found.split()) != 1:
            raise UpstreamError(f"the key file {self.key_file} must hold one key, and nothing else")
        return found


def target(url: str, key_file: Path, ca: Path | None) -> Target:
    """Upstream as somebody names it. Raises UpstreamError."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UpstreamError(f"--upstream is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UpstreamError(f"--upstream {parts.scheme}://... is no address of a gateway: give https://NAME[:PORT]")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UpstreamError("--upstream is an address alone: the key is in --upstream-key-file")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise UpstreamError(f"will not send patients' values and a key to {parts.hostname} in clear: give https://")
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise UpstreamError(f"--upstream-ca {ca} holds no certificates: {_reason(error)}") from error
    found = Target(url.rstrip("/"), key_file, context)
    found.key()
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


class _FaultError(Exception):
    """Why a batch is not through; upstream may ask to wait, or deny the key."""

    def __init__(self, text: str, wait_s: float = 0.0, *, denied: bool = False) -> None:
        super().__init__(text)
        self.wait_s, self.denied = wait_s, denied


class Upstream:
    """Sends batches to ``POST /api/iot``. Belongs to one event loop; :meth:`close` ends its connections.

    ``forwarded`` counts messages by outcome: acknowledged, and refused for good.
    """

    def __init__(
        self,
        target: Target,
        refusals: Refusals,
        forwarded: Counter,
        clock: Callable[[], datetime],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._target, self._refusals, self._forwarded = target, refusals, forwarded
        self._clock, self._sleep = clock, sleep
        self._pause_s = 0.0
        self._not_before = clock()
        self._denied: str | None = None
        self.link = Link(Way.UNTRIED, clock())
        # A proxy of the environment is none of ours: the key goes to upstream alone.
        self._client = httpx.AsyncClient(
            verify=target.tls, timeout=httpx.Timeout(ANSWER_S, connect=_CONNECT_S), trust_env=False
        )

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def send(self, records: Sequence[Record]) -> list[Receipt]:
        """Have upstream acknowledge all records, or refuse them for good. Raises UpstreamUnavailableError.

        After a failure it first waits as long as is due.
        """
        await self._wait()
        began, refused = self._clock(), 0
        try:
            for part in parts(records, MAX_BODY_BYTES):
                refused += await self._deliver(part)
        except _FaultError as fault:
            self._failed(fault, began)
            raise UpstreamUnavailableError(str(fault)) from fault
        if self.link.way is not Way.UP:
            self.link = Link(Way.UP, self._clock())
        self._pause_s = 0.0
        self._forwarded.labels("acknowledged").inc(len(records) - refused)
        self._forwarded.labels("refused").inc(refused)
        return [Receipt(record.message_id, None, None) for record in records]

    def _failed(self, fault: _FaultError, began: datetime) -> None:
        way = Way.DENIED if fault.denied else Way.DOWN
        broke = self.link.way in (Way.UP, Way.UNTRIED)
        self.link = Link(way, began if broke else self.link.since, str(fault))
        self._pause_s = min(2 * self._pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        wait_s = DENIED_PAUSE_S if fault.denied else max(self._pause_s, min(fault.wait_s, _LONGEST_ASKED_S))
        self._not_before = self._clock() + timedelta(seconds=wait_s)

    async def _wait(self) -> None:
        while (left_s := (self._not_before - self._clock()).total_seconds()) > 0:
            if self.link.way is Way.DENIED and self._key() != self._denied:
                return
            await self._sleep(min(left_s, _LOOK_S))

    def _key(self) -> str | None:
        try:
            return self._target.key()
        except UpstreamError:
            return None

    async def _deliver(self, records: Sequence[Record]) -> int:
        """Have these records answered for good; how many of them were refused. Raises _FaultError."""
        rest, refused = tuple(records), 0
        while rest:
            answer = await self._post(rest)
            if answer.status_code == 202:
                break
            faults = _faults(answer, rest)
            if not faults and answer.status_code == 413 and len(rest) > 1:
                half = len(rest) // 2
                return refused + await self._deliver(rest[:half]) + await self._deliver(rest[half:])
            if not faults:
                raise _fault_of(answer)
            for index, reason in faults.items():
                await asyncio.to_thread(self._keep, rest[index], reason)
            rest = tuple(record for index, record in enumerate(rest) if index not in faults)
            refused += len(faults)
        return refused

    def _keep(self, record: Record, reason: str) -> None:
        try:
            self._refusals.keep(record.topic, record.value, [reason], self._clock())
        except OSError as error:
            raise _FaultError(f"a refused message cannot be kept: {_reason(error)}") from error

    async def _post(self, records: Sequence[Record]) -> httpx.Response:
        values = [record.value for record in records]
        # A message that is as large as a body may be has no room for brackets.
        body = values[0] if len(values) == 1 else b"[" + b",".join(values) + b"]"
        try:
            self._denied = self._target.key()
            return await self._client.post(
                f"{self._target.url}/api/iot",
                content=body,
                headers={"Authorization": f"Bearer {self._denied}", "Content-Type": "application/json"},
            )
        except UpstreamError as error:
            # Whoever asks for readiness is shown this: no path of ours.
            raise _FaultError("the file of the key for upstream cannot be read, or holds no key") from error
        except httpx.TimeoutException as error:
            raise _FaultError(f"upstream does not answer ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise _FaultError(f"upstream cannot be reached: {error or type(error).__name__}") from error


def parts(records: Sequence[Record], limit: int) -> Iterator[Sequence[Record]]:
    """The records in order, in parts whose body upstream takes; a single record is never cut."""
    start, size = 0, 2
    for index, record in enumerate(records):
        added = len(record.value) + 1
        if index > start and size + added > limit:
            yield records[start:index]
            start, size = index, 2
        size += added
    if records:
        yield records[start:]


def _faults(answer: httpx.Response, records: Sequence[Record]) -> Mapping[int, str]:
    """Why upstream refuses which of these records for good.

    Only what says so of each of them: something else than a gateway may answer under its address.
    """
    if answer.headers.get("content-type", "").split(";")[0] != MEDIA_TYPE:
        return {}
    if answer.status_code == 413 and len(records) == 1:
        return {0: "upstream: larger than it takes"}
    if answer.status_code != 422:
        return {}
    try:
        named = [(one["index"], one["message_id"], one["detail"]) for one in orjson.loads(answer.content)["errors"]]
        return {
            index: f"upstream: {detail}"
            for index, message_id, detail in named
            if index >= 0 and records[index].message_id == message_id
        }
    except (ValueError, KeyError, TypeError, IndexError):
        return {}


def _fault_of(answer: httpx.Response) -> _FaultError:
    status = answer.status_code
    if status in (401, 403):
        why = "does not know the key" if status == 401 else "does not let this key send: it needs the scope ingest"
        return _FaultError(f"upstream answers {status}: it {why}", denied=True)
    asked = answer.headers.get("retry-after", "")
    text = f"upstream answers {status}"
    if status not in (429, 500, 502, 503, 504):
        text += ": is --upstream the address of a gateway?"
    return _FaultError(text, float(asked) if asked.isdigit() else 0.0)
