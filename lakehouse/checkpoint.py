"""What a streaming query's checkpoint says: how far it has come, read from its files without Spark."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KafkaOffsets = Mapping[str, Mapping[int, int]]
"""Topic -> partition -> offset of the next record."""


@dataclass(frozen=True)
class Position:
    """The newest batch that a checkpoint has committed, and the end offset of each of its sources.

    ``in_flight`` is true where a later batch was planned and not committed: it runs again at the next start.
    """

    batch_id: int
    sources: tuple[dict[str, Any], ...]
    in_flight: bool

    def kafka(self) -> dict[str, dict[int, int]]:
        """End offsets of the Kafka sources."""
        return {
            topic: {int(partition): int(offset) for partition, offset in partitions.items()}
            for source in self.sources
            if "reservoirId" not in source and "logOffset" not in source
            for topic, partitions in source.items()
        }

    def delta_version(self) -> int | None:
        """The last version of the Delta source that is wholly read; -1 where none is, None without such a source."""
        for source in self.sources:
            if "reservoirId" in source:
                # Reading the first snapshot file by file: nothing is whole before it is through.
                return -1 if source.get("isStartingVersion", False) else int(source["reservoirVersion"]) - 1
        return None


def position(checkpoint: Path) -> Position | None:
    """How far a checkpoint has come; None where it has committed nothing."""
    planned, committed = _batches(checkpoint / "offsets"), _batches(checkpoint / "commits")
    done = sorted(planned & committed)
    if not done:
        return None
    lines = (checkpoint / "offsets" / str(done[-1])).read_text(encoding="utf-8").splitlines()
    # Line 1 is the format's version, line 2 the batch's metadata; then a line a source, "-" for one without data.
    sources = tuple(json.loads(line) for line in lines[2:] if line != "-")
    return Position(batch_id=done[-1], sources=sources, in_flight=max(planned) > done[-1])


def files_read(checkpoint: Path) -> frozenset[str]:
    """Files that a flow's file source has read in committed batches, each as ``FOLDER/NAME``."""
    at = position(checkpoint)
    if at is None:
        return frozenset()
    done = at.sources[0]["logOffset"]
    logs = (checkpoint / "sources" / "0").glob("[0-9]*")
    # Line 1 is the format's version. Every tenth log holds all that came before it.
    entries = (json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()[1:])
    return frozenset("/".join(entry["path"].split("/")[-2:]) for entry in entries if entry["batchId"] <= done)


def _batches(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.glob("*") if path.name.isdecimal()}
