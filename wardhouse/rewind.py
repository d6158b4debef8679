"""``ward checkpoint rewind``: a flow goes back, by a new generation of its checkpoint.

What may be read again differs by flow. Bronze takes each record as it comes, so it never goes back behind what it
holds. All other flows write by key, so that reading again changes nothing but what is missing. What cannot be made safe
is a RewindError that names the reason.

:func:`bronze_start`, :func:`kafka_start` and :func:`version_start` decide; :func:`plan` gathers what they need.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse import checkpoint
from lakehouse.checkpoint import Sources
from lakehouse.datadir import DataDir
from lakehouse.delta_log import Commit, commits, unreadable
from lakehouse.pipeline import ALERT_LIMITS, BACKFILL, DEVICE_MESSAGE, Flow, flows_of
from lakehouse.reader import TableMissingError, connect
from lakehouse.spool import Spool
from lakehouse.table import Table
from lakehouse.tables import DEVICE_MESSAGE as BRONZE
from lakehouse.tables import TABLES
from lakehouse.topics import TOPICS
from wardhouse.durations import instant
from wardhouse.errors import Failure
from wardhouse.topics import Offsets, end_offsets, first_offsets, offsets_since

if TYPE_CHECKING:
    from lakehouse.storage import Place

LAKEHOUSE_FLOWS = tuple(flow for flow in flows_of("lakehouse") if flow.checkpoint)
BEGINNING = "beginning"
VERSION = "version"
_OFFSET = re.compile(r"(.+)-(\d+)=(\d+)")


class RewindError(Failure):
    """A flow cannot go there without losing, doubling or skipping something; the text says what."""


@dataclass(frozen=True)
class Target:
    """Where a flow is to go back to: one of these, or the beginning of its source."""

    batch: int | None = None
    since: datetime | None = None
    offsets: Offsets | None = None
    version: int | None = None


@dataclass(frozen=True)
class Kafka:
    """What the broker has of a flow's topics: first retained offset, and the one after the last."""

    first: Offsets
    end: Offsets


@dataclass(frozen=True)
class Generation:
    """A generation that is to be made: ``sources`` is where it begins, ``lines`` say for a person what that means."""

    flow: Flow
    folder: "Place"
    sources: Sources
    lines: tuple[str, ...]


def target(text: str) -> Target:
    """What a person gives: ``beginning``, a batch (``17``), an instant, ``version=12``, ``vitals-0=500,vitals-1=480``.

    Raises RewindError, and BadParameter for an instant that is none.
    """
    if text == BEGINNING:
        return Target()
    if text.isdecimal():
        return Target(batch=int(text))
    if text.startswith(f"{VERSION}=") and text.removeprefix(f"{VERSION}=").isdecimal():
        return Target(version=int(text.removeprefix(f"{VERSION}=")))
    if "=" not in text:
        return Target(since=instant(text))
    found = [_OFFSET.fullmatch(part.strip()) for part in text.split(",")]
    if not all(found):
        raise RewindError(f"{text}: give offsets as TOPIC-PARTITION=OFFSET,.. or a table's as {VERSION}=N")
    return Target(offsets={(match[1], int(match[2])): int(match[3]) for match in found if match})


def bronze_start(asked: Offsets, at: Offsets, held: Offsets, kafka: Kafka) -> tuple[Offsets, tuple[str, ...]]:
    """Where bronze goes on, and remarks: behind what it ``held`` (the offset after the last), whatever is asked.

    ``at`` is how far its flow has come. Raises RewindError where records would be skipped, or where these are not the
    topics that bronze was made of.
    """
    start, lines = dict[tuple[str, int], int](), list[str]()
    for place, first, end in _places(kafka):
        behind, name = held.get(place, first), _name(place)
        _refuse_skip(name, asked.get(place, behind), max(behind, at.get(place, first)), "bronze has")
        if behind > end:
            raise RewindError(f"{name} ends at {end} and bronze holds it up to {behind - 1}: it is not the same topic")
        start[place] = behind
        lines.append(f"{name}: goes on at {behind}, behind what bronze holds")
        if behind < first:
            lines.append(f"{name}: Kafka has lost {first - behind:,} offsets before {first} that bronze has not")
    _refuse_unknown(asked, start)
    return start, tuple(lines)


def kafka_start(asked: Offsets, at: Offsets, kafka: Kafka) -> tuple[Offsets, tuple[str, ...]]:
    """Where a flow that writes by key goes on, which is ``at`` these offsets now; and remarks.

    What retention has taken is in its tables already: it begins with the first record there is. Raises RewindError
    where records would be skipped.
    """
    start, lines = dict[tuple[str, int], int](), []
    for place, first, end in _places(kafka):
        come, name = at.get(place, first), _name(place)
        _refuse_skip(name, asked.get(place, come), come, "the flow has read")
        if come > end:
            raise RewindError(f"{name} ends at {end} and the flow has read up to {come}: it is not the same topic")
        start[place] = max(asked.get(place, come), first)
        lines.append(f"{name}: from {start[place]} on, {max(0, come - start[place]):,} records are read again")
        if asked.get(place, come) < first:
            lines.append(f"{name}: Kafka has no record before {first} any more; the tables keep what came of them")
    _refuse_unknown(asked, start)
    return start, tuple(lines)


def version_start(asked: int, read: int | None) -> int:
    """The version of its table that a flow begins with, which has wholly read up to ``read``. Raises RewindError."""
    _refuse_skip(VERSION, asked, 0 if read is None else read + 1, "the flow has read")
    return asked


def plan(data: DataDir, flow_name: str, to: Target, bootstrap: str, names: Mapping[str, str]) -> Generation:
    """What a rewind would make; ``names`` are the site's topics. Raises RewindError, and Failure without a broker."""
    flow = lakehouse_flow(flow_name)
    folder = data.next_checkpoint(flow)
    if flow == BACKFILL:
        return Generation(flow, folder, (), backfill_lines(data, to))
    if table := source_table(flow):
        return Generation(flow, folder, *_from_table(data, flow, table, to))
    topics = topics_of(flow, names)
    kafka = Kafka(first_offsets(bootstrap, topics), end_offsets(bootstrap, topics))
    if missing := [name for name in topics if name not in {topic for topic, _ in kafka.end}]:
        raise RewindError(
            f"the brokers at {bootstrap} have no topic {', '.join(missing)}: `ward apply` makes what is missing"
        )
    asked, at = _asked(data, flow, to, kafka, bootstrap), come_to(data, flow)
    if flow == DEVICE_MESSAGE:
        start, lines = bronze_start(asked, at, held_by_bronze(data, topics), kafka)
    else:
        start, lines = kafka_start(asked, at, kafka)
    return Generation(flow, folder, checkpoint.kafka_sources(nested(start)), lines)


def carry_out(generation: Generation, reason: str, now: datetime) -> None:
    """Make the generation: the flow begins there when it starts next. The one before stays as it is."""
    checkpoint.begin(generation.folder, generation.sources, reason, now)


def lakehouse_flow(name: str) -> Flow:
    """The flow of the lakehouse application of this name. Raises RewindError."""
    for flow in LAKEHOUSE_FLOWS:
        if flow.name == name:
            return flow
    known = ", ".join(flow.name for flow in LAKEHOUSE_FLOWS)
    if name == ALERT_LIMITS.name:
        raise RewindError(f"{name} goes on behind its own output at each start and needs no rewind; others: {known}")
    raise RewindError(f"no flow of the lakehouse is named {name}: {known}")


def source_table(flow: Flow) -> Table | None:
    """The table that a flow reads as a stream; None where it reads Kafka or files."""
    return next((table for table in TABLES if table.full_name in flow.reads), None)


def topics_of(flow: Flow, names: Mapping[str, str]) -> tuple[str, ...]:
    """The site's names of the topics that a flow reads."""
    return tuple(names[topic.name] for topic in TOPICS if topic.name in flow.reads)


def come_to(data: DataDir, flow: Flow) -> Offsets:
    """The offsets that a flow's newest generation has come to, as far as its files can be read."""
    at = checkpoint.newest_whole(data.checkpoint(flow))
    return flat(at.kafka()) if at else {}


def held_by_bronze(data: DataDir, topics: Iterable[str], version: int | None = None) -> Offsets:
    """The offset after the last that bronze holds of each partition, now or at a version."""
    sql = (
        'SELECT topic, "partition", max("offset") + 1 FROM bronze.device_message'
        " WHERE topic IN (SELECT unnest($topics)) GROUP BY ALL"
    )
    try:
        database = connect(data, (BRONZE,), {BRONZE: version} if version is not None else None)
    except TableMissingError:
        return {}
    with database:
        rows = database.sql(sql, params={"topics": list(topics)}).fetchall()
    return {(topic, partition): behind for topic, partition, behind in rows}


def backfill_lines(data: DataDir, to: Target) -> tuple[str, ...]:
    """What a new generation of the backfill flow means. Raises RewindError where it would land files twice."""
    if to != Target():
        raise RewindError(f"the spool keeps no file that has landed: `--to {BEGINNING}` is the only way")
    require_empty_spool(data)
    return ("the spool is empty: nothing is read again; `ward backfill` knows what bronze has",)


def require_empty_spool(data: DataDir) -> None:
    """Raise RewindError where files are in the spool: some may be in bronze, and a new generation would repeat them."""
    if files := Spool(data).files():
        raise RewindError(
            f"{len(files)} files are in the spool, and would land twice: give the `ward backfill` that put them there"
            " again, which empties it"
        )


def flat(offsets: checkpoint.KafkaOffsets) -> Offsets:
    """Offsets by topic and partition, from offsets by topic, then partition."""
    return {(topic, number): at for topic, parts in offsets.items() for number, at in parts.items()}


def nested(offsets: Offsets) -> dict[str, dict[int, int]]:
    """The way back from :func:`flat`."""
    return {
        topic: {p: at for (name, p), at in offsets.items() if name == topic}
        for topic in sorted({t for t, _ in offsets})
    }


def _from_table(data: DataDir, flow: Flow, table: Table, to: Target) -> tuple[Sources, tuple[str, ...]]:
    version = _version(data, flow, table, to)
    if version is None:
        return (), (f"{table.full_name} is read again as a whole, as it is now; nothing is written twice",)
    at, found = checkpoint.newest_whole(data.checkpoint(flow)), commits(data.table(table))
    version_start(version, at.delta_version() if at else None)
    newest = found[-1].version
    if version <= newest and (reason := unreadable(data.table(table), version)):
        raise RewindError(
            f"{table.full_name} cannot be read from version {version} on: {reason}. `--to {BEGINNING}` reads it whole"
        )
    again = max(0, newest - version + 1)
    lines = (f"{table.full_name}: from version {version} on, {again:,} versions are read again",)
    return checkpoint.delta_sources(version), lines


def _version(data: DataDir, flow: Flow, table: Table, to: Target) -> int | None:
    """The version that is asked for; None for the whole table."""
    if to.offsets is not None:
        raise RewindError(f"flow {flow.name} reads a table: give {VERSION}=N")
    if to.version is not None:
        return to.version
    if to.batch is not None:
        ended = checkpoint.Position(to.batch, _after(data, flow, to.batch), in_flight=False).delta_version()
        return None if ended is None or ended < 0 else ended + 1
    if to.since is None:
        return None
    return _version_since(table, commits(data.table(table)), to.since)


def _version_since(table: Table, found: tuple[Commit, ...], since: datetime) -> int:
    if found[0].version > 0 and found[0].at > since:
        raise RewindError(
            f"the log of {table.full_name} begins at {found[0].at.isoformat()}: `--to {BEGINNING}` reads it whole"
        )
    return next((commit.version for commit in found if commit.at >= since), found[-1].version + 1)


def _asked(data: DataDir, flow: Flow, to: Target, kafka: Kafka, bootstrap: str) -> Offsets:
    """The offsets that are asked for; a partition that is not in it stays where it is."""
    if to.version is not None:
        raise RewindError(f"flow {flow.name} reads Kafka: give TOPIC-PARTITION=OFFSET,..")
    if to.offsets is not None:
        return to.offsets
    if to.batch is not None:
        return flat(checkpoint.Position(to.batch, _after(data, flow, to.batch), in_flight=False).kafka())
    if to.since is not None:
        return offsets_since(bootstrap, {topic for topic, _ in kafka.end}, to.since)
    return kafka.first


def _after(data: DataDir, flow: Flow, batch: int) -> Sources:
    folder = data.checkpoint(flow)
    if batch not in (kept := checkpoint.batches(folder)):
        known = f"it keeps {kept[0]} to {kept[-1]}" if kept else "it has committed none"
        raise RewindError(f"generation {folder.name} of {flow.name} keeps no batch {batch}: {known}")
    return checkpoint.sources_after(folder, batch)


def _places(kafka: Kafka) -> Iterable[tuple[tuple[str, int], int, int]]:
    return ((place, kafka.first[place], end) for place, end in sorted(kafka.end.items()))


def _name(place: tuple[str, int]) -> str:
    return f"{place[0]}-{place[1]}"


def _refuse_skip(name: str, asked: int, come: int, who: str) -> None:
    if asked > come:
        raise RewindError(f"{name}: to begin at {asked} would skip {asked - come:,}; {who} all before {come}")


def _refuse_unknown(asked: Offsets, start: Offsets) -> None:
    if unknown := sorted(map(_name, asked.keys() - start.keys())):
        raise RewindError(f"the flow does not read {', '.join(unknown)}; it reads {', '.join(map(_name, start))}")
