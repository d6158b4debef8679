"""What the log of a Delta table says of its versions: which of them a stream could still read, without Spark."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True)
class Commit:
    """One version: when and by what operation it was made, and the data files that it brings as news to a stream.

    ``added`` is empty where it takes rows away too: streams pass over such a version.
    """

    version: int
    at: datetime
    operation: str
    added: frozenset[str]


def commits(table: Path) -> tuple[Commit, ...]:
    """The versions that the log still tells one by one, oldest first, without gaps up to the newest."""
    found: list[Commit] = []
    for path in sorted((table / "_delta_log").glob("[0-9]*.json"), reverse=True):
        version = int(path.stem)
        if found and version != found[-1].version - 1:
            break
        found.append(_commit(version, path))
    return tuple(reversed(found))


def unreadable(table: Path, version: int) -> str | None:
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


def _commit(version: int, path: Path) -> Commit:
    actions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    return Commit(
        version=version,
        at=datetime.fromtimestamp(info.get("timestamp", path.stat().st_mtime * 1000) / 1000, UTC),
        operation=info.get("operation", ""),
        added=frozenset() if any(_files(actions, "remove")) else frozenset(_files(actions, "add")),
    )


def _files(actions: list[dict[str, Any]], kind: str) -> Iterator[str]:
    return (unquote(action[kind]["path"]) for action in actions if kind in action and action[kind]["dataChange"])
