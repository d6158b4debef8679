"""Numerics of a bedside monitor, one file a patient: ``charttime`` and a column a signal, one row an instant.

The layout is that of numerics exported from PhysioNet's MIMIC-III waveform records. One row becomes one message with
all signals of that instant. Patient and device are named after the file, ``monitor-csv/NAME``. ``message_id`` is the
instant within the file; a second row of the same instant gets ``-2``: its values are newer versions of the first's.
A 0, which means disconnected, is sent as it is. An empty cell was not measured and gives no observation. A cell that
is not a number is sent as a text. Arterial and cuff pressure are told apart by ``source_code``, the column's name.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lakehouse.message import SCHEMA_VERSION, Message
from lakehouse.sources.instants import instant, number, rfc3339
from lakehouse.sources.items import Item, monitor_columns
from lakehouse.sources.rows import LINE, SUFFIXES, Columns, as_text, find, header, in_order, read
from lakehouse.sources.source import Event, Selection, SourceHeaderError, SourceNotFoundError, Tally

_TIME = "charttime"
_TEXT_LIMIT = 64
"""The contract's longest value_code."""


@dataclass(frozen=True)
class MonitorSource:
    """A monitor's numerics file, or a folder of them, as a source."""

    name: str = "monitor-csv"

    def events(self, path: Path, selection: Selection, tally: Tally, scratch: Path | None = None) -> Iterator[Event]:
        """See :meth:`lakehouse.sources.source.Source.events`. Files of a folder are merged by time."""
        files = [file for file in _files(path) if selection.subjects is None or _stem(file) in selection.subjects]
        streams = [self._file(file, selection, tally, scratch) for file in files]
        for _, _, event in heapq.merge(*streams, key=lambda entry: entry[:2]):
            if selection.limit is not None and tally.messages >= selection.limit:
                tally.not_selected += 1
                continue
            tally.sent(event.message)
            yield event

    def resources(self, path: Path, selection: Selection, tally: Tally) -> Iterator[Event]:  # noqa: ARG002
        """A monitor's file says nothing of its patient."""
        return iter(())

    def _file(
        self, file: Path, selection: Selection, tally: Tally, scratch: Path | None
    ) -> Iterator[tuple[datetime, str, Event]]:
        names = {name.lower(): name for name in header(file)}
        known = {column.lower(): (column, item) for column, item in monitor_columns().items()}
        mapped = {name: known.get(name, (spelled, None)) for name, spelled in names.items()}
        if names.keys().isdisjoint(known):
            known_names = ", ".join(column for column, _ in known.values())
            raise SourceHeaderError(f"{file}:1: the header names no signal that is mapped; mapped are {known_names}")
        columns = Columns(required=(_TIME,), optional=tuple(name for name in names if name != _TIME))
        seen: Counter[datetime] = Counter()
        before = tally.rows_read
        ordered = in_order(map(_texts, read(file, columns, tally)), (_TIME, LINE), scratch)
        first = next(ordered, [])
        # The whole file is read by now, and no other file's rows are counted in between.
        rows_read = tally.rows_read - before
        times_read = 0
        for cells in itertools.chain(first, itertools.chain.from_iterable(ordered)):
            row = dict(zip((*columns.all, LINE), cells, strict=True))
            observed_at = instant(row[_TIME])
            times_read += observed_at is not None
            if observed_at is None:
                tally.reject("bad_charttime", file, row[LINE], row[_TIME])
            elif not selection.has_time(observed_at):
                tally.not_selected += 1
            elif found := _observations(row, mapped, file, tally):
                seen[observed_at] += 1
                message = self._message(_stem(file), observed_at, seen[observed_at], found)
                yield observed_at, _stem(file), Event(file, row[LINE], message)
            else:
                tally.rows_without_value["row"] += 1
        if rows_read and not times_read:
            raise SourceHeaderError(f"{file}:1: not one row fits the header, or has a time under {_TIME}")

    def _message(self, stem: str, observed_at: datetime, nth: int, observations: list[dict[str, Any]]) -> Message:
        at = rfc3339(observed_at)
        return {
            "schema_version": SCHEMA_VERSION,
            "message_id": f"{self.name}/{stem}/{at}" + (f"-{nth}" if nth > 1 else ""),
            "patient_id": f"{self.name}/{stem}",
            "device_id": f"{self.name}/{stem}",
            "source": self.name,
            "observed_at": at,
            "status": "final",
            "observations": observations,
        }


SOURCE = MonitorSource()


def _observations(
    row: Mapping[str, Any], mapped: Mapping[str, tuple[str, Item | None]], file: Path, tally: Tally
) -> list[dict[str, Any]]:
    found = []
    for name, cell in row.items():
        if name in (_TIME, LINE):
            continue
        text = cell.strip()
        column, item = mapped[name]
        if item is None:
            tally.unmapped_cells[column] += bool(text)
            continue
        if not text:
            tally.empty_cells[column] += 1
            continue
        value = number(text)
        if value is None:
            tally.text_values[column] += 1
            if len(text) > _TEXT_LIMIT:
                tally.flaw("text_cut", file, row[LINE], text)
        reading: dict[str, Any] = {"value": value} if value is not None else {"value_code": text[:_TEXT_LIMIT]}
        found.append({"code": item.code, **reading, "unit": item.unit, "source_code": column})
    return found


def _texts(batch: Any) -> Any:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([as_text(column) for column in batch.columns], batch.schema.names)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [find(path)]
    found = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES))
    if not found:
        raise SourceNotFoundError(f"{path}: the folder has no file that ends in {', '.join(SUFFIXES)}")
    return found


def _stem(file: Path) -> str:
    name = file.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name
