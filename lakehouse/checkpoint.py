"""What a streaming query's checkpoint says: how far it has come, read from its files without Spark.

A checkpoint is never edited. A rewind or restore makes the next generation: a folder with nothing in it but where the
flow is to begin, from which Spark then makes a checkpoint of its own.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.storage import Place

_START = "start.json"
Sources = tuple[dict[str, Any], ...]
"""Where each source stands, as Spark keeps it: ``{topic: {partition: offset}}``, or a Delta table's next version."""

KafkaOffsets = Mapping[str, Mapping[int, int]]
"""Topic -> partition -> offset of the next record."""


class CheckpointError(RuntimeError):
    """A checkpoint's files do not say where it stands; the text names the file and what to do."""


@dataclass(frozen=True)
class Position:
    """The newest batch that a checkpoint has committed, and the end offset of each of its sources.

    ``in_flight`` is true where a later batch was planned and not committed: it runs again at the next start.
    A generation that has committed nothing yet stands where it begins, and its ``batch_id`` is -1.
    """

    batch_id: int
    sources: Sources
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


def position(checkpoint: "Place") -> Position | None:
    """How far a checkpoint has come; None where it has committed nothing and begins at the first record there is.

    Raises CheckpointError.
    """
    done = batches(checkpoint)
    planned = _numbers(checkpoint / "offsets")
    if done:
        return Position(done[-1], sources_after(checkpoint, done[-1]), in_flight=max(planned) > done[-1])
    begins = start_of(checkpoint)
    return Position(-1, begins, in_flight=bool(planned)) if begins else None


def newest_whole(checkpoint: "Place") -> Position | None:
    """As :func:`position`, passing over damaged batches: how far a checkpoint has surely come. Nothing is an error."""
    planned = _numbers(checkpoint / "offsets")
    for batch in reversed(batches(checkpoint)):
        with suppress(CheckpointError):
            return Position(batch, sources_after(checkpoint, batch), in_flight=max(planned) > batch)
    with suppress(CheckpointError):
        if begins := start_of(checkpoint):
            return Position(-1, begins, in_flight=bool(planned))
    return None


def require_whole(checkpoint: "Place") -> None:
    """Raise CheckpointError, with the command that mends it, where a query could not go on from its newest files."""
    try:
        start_of(checkpoint)
        if planned := _numbers(checkpoint / "offsets"):
            sources_after(checkpoint, max(planned))
        if done := _numbers(checkpoint / "commits"):
            with _whole(checkpoint / "offsets"):
                _require(bool(planned), "it is empty, and batches are committed")
            path = checkpoint / "commits" / str(max(done))
            with _whole(path):
                version, body = path.read_text(encoding="utf-8").splitlines()
                _require(version.startswith("v") and isinstance(json.loads(body), dict), "it is no commit")
    except CheckpointError as error:
        flow = checkpoint.parent.name
        raise CheckpointError(
            f"{error}. `ward checkpoint rewind {flow} --to beginning --yes` lets {flow} go on, and loses nothing"
        ) from error


def clear_unfinished(checkpoint: "Place") -> None:
    """Remove the file that a process has left which was killed while it planned the very first batch.

    Spark renames a file into its place when it is whole, and starts no query over a folder that has only the other one.
    """
    folder = checkpoint / "offsets"
    if not _numbers(folder):
        # No pattern that begins with a dot: it becomes a prefix, and there are stores that refuse one.
        for path in folder.glob("*"):
            if path.name.startswith(".") and ".tmp" in path.name:
                path.unlink()


def batches(checkpoint: "Place") -> list[int]:
    """The committed batches whose offsets are still kept (Spark keeps a hundred), oldest first."""
    return sorted(_numbers(checkpoint / "offsets") & _numbers(checkpoint / "commits"))


def sources_after(checkpoint: "Place", batch: int) -> Sources:
    """Where the sources stood at the end of a batch that :func:`batches` names. Raises CheckpointError."""
    path = checkpoint / "offsets" / str(batch)
    with _whole(path):
        lines = path.read_text(encoding="utf-8").splitlines()
        # Line 1 is the format's version, line 2 the batch's metadata; then a line a source, "-" for one without data.
        _require(len(lines) > 2 and isinstance(json.loads(lines[1]), dict), "it is cut off")
        return _checked(json.loads(line) for line in lines[2:] if line != "-")


def committed_at(checkpoint: "Place") -> float | None:
    """When the newest batch was committed, epoch seconds; None where none was."""
    done = batches(checkpoint)
    return (checkpoint / "commits" / str(done[-1])).stat().st_mtime if done else None


def kafka_sources(offsets: KafkaOffsets) -> Sources:
    """Sources that go on at these offsets."""
    return ({topic: {str(number): at for number, at in parts.items()} for topic, parts in offsets.items()},)


def delta_sources(version: int) -> Sources:
    """Sources that go on with this version of a Delta table, which need not be there yet."""
    return ({"reservoirId": None, "reservoirVersion": version, "index": -1, "isStartingVersion": False},)


def start_of(checkpoint: "Place") -> Sources:
    """Where a generation was made to begin; empty for the first record there is. Raises CheckpointError."""
    path = checkpoint / _START
    if not path.exists():
        return ()
    with _whole(path):
        return _checked(json.loads(path.read_text(encoding="utf-8"))["sources"])


def begin(checkpoint: "Place", sources: Sources, reason: str, now: datetime) -> None:
    """Make a generation that begins there; ``checkpoint`` appears whole, and must not be there."""
    said = {"made_at": now.isoformat(timespec="seconds"), "reason": reason, "sources": sources}
    text = json.dumps(said, indent=2) + "\n"
    if not isinstance(checkpoint, Path):
        # Storage knows no folders: one object makes the generation.
        (checkpoint / _START).write_text(text, encoding="utf-8")
        return
    making = checkpoint.with_name(f".{checkpoint.name}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    (making / _START).write_text(text, encoding="utf-8")
    making.rename(checkpoint)


def files_read(checkpoint: "Place") -> frozenset[str]:
    """Files that a flow's file source has read in committed batches, each as ``FOLDER/NAME``.

    Raises CheckpointError.
    """
    at = position(checkpoint)
    if at is None:
        return frozenset()
    logs = checkpoint / "sources" / "0"
    with _whole(logs):
        done = at.sources[0]["logOffset"]
        texts = (log.read_text(encoding="utf-8") for log in logs.glob("[0-9]*"))
        # Line 1 is the format's version. Every tenth log holds all that came before it.
        entries = (json.loads(line) for text in texts for line in text.splitlines()[1:])
        return frozenset("/".join(entry["path"].split("/")[-2:]) for entry in entries if entry["batchId"] <= done)


@contextmanager
def _whole(path: "Place") -> Iterator[None]:
    """Turn whatever a damaged file gives into the error that names it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        text = f"{path} is damaged ({type(error).__name__}: {error}): docs/checkpoints.md has the ways back"
        raise CheckpointError(text) from error


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _checked(documents: Iterable[dict[str, Any]]) -> Sources:
    """The sources, each of a kind that a position can be told from."""
    sources = tuple(documents)
    read = Position(0, sources, in_flight=False)
    read.kafka()
    read.delta_version()
    return sources


def _numbers(folder: "Place") -> set[int]:
    return {int(path.name) for path in folder.glob("*") if path.name.isdecimal()}
