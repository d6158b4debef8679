"""API keys: a file of their hashes, written by ``ward keys`` and read by a running gateway whenever it changes.

A key is 256 random bits, so a plain SHA-256 is as hard to turn back as the key is to guess. What slow hashes and salts
are for, passwords that people choose, does not arise, and a look-up costs microseconds.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Annotated, Any

from pydantic import AwareDatetime, ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lakehouse import secret_file
from lakehouse.caller import Caller, Kind, Scope
from lakehouse.datadir import DataDir

PREFIX = "ward_"
"""How a key begins: what tells it from a token, and lets scanners of repositories find one that leaked."""

_BYTES = 32
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class KeyRefusedError(ValueError):
    """What was asked of the keys cannot be; the text says what to do."""


class KeysUnreadableError(RuntimeError):
    """The file of keys cannot be read: nobody is let in."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Key:
    """One key as it is kept. ``units`` are the care units whose patients it may see; None: all."""

    key_id: str
    name: _Name
    hash: str
    scopes: frozenset[Scope]
    created_at: AwareDatetime
    units: frozenset[str] | None = None
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it opens anything now."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def state(self, now: datetime) -> str:
        """In a word: in force, revoked, expired."""
        if self.revoked_at is not None:
            return "revoked"
        return "in force" if self.holds(now) else "expired"


_KEYS: TypeAdapter[tuple[Key, ...]] = TypeAdapter(tuple[Key, ...])


def file_of(data: DataDir) -> Path:
    """The file of keys of a data dir."""
    return data.access / "keys.json"


def hashed(token: str) -> str:
    """A key as it is kept."""
    return sha256(token.encode()).hexdigest()


def read(path: Path) -> tuple[Key, ...]:
    """Every key there ever was; none where there is no file. Raises KeysUnreadableError."""
    try:
        return _KEYS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        # Pydantic's text would hold what stands in the file.
        reason = error.strerror if isinstance(error, OSError) else "its content is not a list of keys"
        raise KeysUnreadableError(f"{path} cannot be read: {reason}") from error


def create(
    path: Path,
    name: str,
    scopes: frozenset[Scope],
    now: datetime,
    units: frozenset[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[Key, str]:
    """Add a key; the second is its text, which is kept nowhere. Raises KeyRefusedError and KeysUnreadableError."""
    if not scopes:
        raise KeyRefusedError("a key needs a scope: ingest, read, alert, research or admin")
    if expires_at is not None and expires_at <= now:
        raise KeyRefusedError("a key must expire in the future")
    token = PREFIX + token_urlsafe(_BYTES)
    try:
        made = Key(token_hex(4), name, hashed(token), scopes, now, units, expires_at)
    except ValidationError as error:
        raise KeyRefusedError(f"{name}: a name has up to 64 letters, digits, dots, dashes and underscores") from error
    with _changing(path) as keys:
        if any(key.name == name and key.holds(now) for key in keys.values()):
            raise KeyRefusedError(f"there is a key {name} already: revoke it, or choose another name")
        keys[made.key_id] = made
    return made, token


def revoke(path: Path, name: str, now: datetime) -> Key:
    """Revoke the key of this name or id. Raises KeyRefusedError and KeysUnreadableError."""
    with _changing(path) as keys:
        found = [key for key in keys.values() if name in (key.name, key.key_id) and key.revoked_at is None]
        if not found:
            raise KeyRefusedError(f"no key {name} can be revoked: `ward keys list` shows those that there are")
        # Of several of one name all but the newest have expired.
        revoked = replace(found[-1], revoked_at=now)
        keys[revoked.key_id] = revoked
    return revoked


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, Key]]:
    """The keys by id, written back when the block ends well; one writer at a time."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = {key.key_id: key for key in read(path)}
        yield keys
        secret_file.write(path, _KEYS.dump_json(tuple(keys.values()), indent=2) + b"\n")


class Keys:
    """The keys of a file as they stand: a change counts from the next look on. ``clock`` says what has expired."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._path, self._clock = path, clock
        self._seen: Any = None
        self._by_hash: Mapping[str, Key] = {}

    @property
    def any(self) -> bool:
        """Whether a key was ever made here: then every caller needs one. Raises KeysUnreadableError."""
        return bool(self._current())

    def caller(self, token: str) -> Caller | None:
        """Whose key it is, where it is in force. Raises KeysUnreadableError."""
        key = self._current().get(hashed(token))
        if key is None or not key.holds(self._clock()):
            return None
        return Caller(Kind.KEY, key.name, key.scopes, key.units, key.key_id, key.expires_at)

    def still(self, caller: Caller) -> bool:
        """Whether a caller who was let in may stay: keys are revoked and expire while somebody listens."""
        now = self._clock()
        if caller.kind is Kind.KEY:
            return any(key.key_id == caller.key_id and key.holds(now) for key in self._current().values())
        return caller.expires_at is None or now < caller.expires_at

    def _current(self) -> Mapping[str, Key]:
        try:
            found = self._path.stat()
            # Written by replacement: another file has another inode, whatever the clock's grain.
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            mark = None
        if mark != self._seen:
            self._by_hash = {key.hash: key for key in read(self._path)}
            self._seen = mark
        return self._by_hash
