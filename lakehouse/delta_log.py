"""What the log of a Delta table says of its versions: which of them a stream could still read, without Spark."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from lakehouse.pipeline import BACKFILL, FLOWS

if TYPE_CHECKING:
    from lakehouse.storage import Place


class LogError(RuntimeError):
    """A version in a table's log is damaged; the text names its file and what to do."""


@dataclass(frozen=True)
class Commit:
    """One version: when and by what operation it was made, and the data files that it brings as news to a stream.

    ``added`` is empty where it takes rows away too: streams pass over such a version.
    """

    version: int
    at: datetime
    operation: str
    added: frozenset[str]


@dataclass(frozen=True)
class FileChange:
    """The data files that one version took away and brought. Compaction moves rows between files: it has neither.

    ``marked`` says that rows were taken away by marks beside a file that stays (deletion vectors).
    """

    version: int
    removed: tuple[str, ...]
    added: tuple[str, ...]
    marked: bool = False


def file_change(table: "Place", version: int) -> FileChange | None:
    """What one version changed; None where the log has no entry of it. Raises LogError."""
    path = table / "_delta_log" / f"{version:020}.json"
    try:
        actions = _actions(path)
    except FileNotFoundError:
        return None
    return FileChange(
        version,
        removed=tuple(_files(actions, "remove")),
        added=tuple(_files(actions, "add")),
        marked=any((action.get("add") or {}).get("deletionVector") for action in actions),
    )


def commits(table: "Place") -> tuple[Commit, ...]:
    """The versions that the log still tells one by one, oldest first, without gaps up to the newest.

    Raises LogError.
    """
    found: list[Commit] = []
    log = table / "_delta_log"
    for name in sorted((path.name for path in log.glob("[0-9]*.json")), reverse=True):
        version = int(name.removesuffix(".json"))
        if found and version != found[-1].version - 1:
            break
        found.append(_commit(version, log / name))
    return tuple(reversed(found))


def require_whole(table: "Place") -> None:
    """Raise LogError where the newest version in a table's log is damaged, as a full disk or a lost power leaves it."""
    log = table / "_delta_log"
    newest = max((path.name for path in log.glob("[0-9]*.json")), default=None)
    if newest is not None:
        _commit(int(newest.removesuffix(".json")), log / newest)


def unreadable(table: "Place", version: int) -> str | None:
    """Why a stream cannot begin with this version of the table, or must not; None where it can."""
    wanted = [commit for commit in commits(table) if commit.version >= version]
    if not wanted or wanted[0].version > version:
        return f"its log begins with version {wanted[0].version}" if wanted else "it has no such version"
    for commit in wanted:
        if commit.operation == "RESTORE" and commit.version > version:
            return f"it was restored by version {commit.version}, and what lies before that was undone"
        if gone := [name for name in commit.added if not (table / name).exists()]:
            return f"VACUUM has taken {len(gone)} files of version {commit.version}"
    return None


def _actions(path: "Place") -> list[dict[str, Any]]:
    try:
        actions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except ValueError as error:
        raise LogError(_ways_back(path, str(error))) from error
    if not actions:
        raise LogError(_ways_back(path, "it is empty"))
    return actions


def _commit(version: int, path: "Place") -> Commit:
    actions = _actions(path)
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    return Commit(
        version=version,
        at=datetime.fromtimestamp(info.get("timestamp", path.stat().st_mtime * 1000) / 1000, UTC),
        operation=info.get("operation", ""),
        added=frozenset() if any(_files(actions, "remove")) else frozenset(_files(actions, "add")),
    )


def _ways_back(path: "Place", error: str) -> str:
    """What to do, in commands: the flows that write or read the table read again what the version may have held."""
    table = f"{path.parents[2].name}.{path.parents[1].name}"
    flows = (
        flow.name
        for flow in FLOWS
        if table in flow.writes + flow.reads and flow.application == "lakehouse" and flow != BACKFILL
    )
    commands = " and ".join(f"`ward checkpoint rewind {name} --to beginning --yes`" for name in flows)
    then = f", then give {commands}" if commands else ""
    return f"{path} is damaged ({error}): move it and its .crc elsewhere{then}; docs/checkpoints.md says what that does"


def _files(actions: list[dict[str, Any]], kind: str) -> Iterator[str]:
    return (unquote(action[kind]["path"]) for action in actions if kind in action and action[kind]["dataChange"])
