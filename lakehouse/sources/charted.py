"""Charted and laboratory values: the reader of both MIMIC editions, which differ in names and in what identifies a row.

One row of chartevents or labevents becomes one message with one observation.

- ``patient_id`` is ``SOURCE/subject_id``. ``encounter_id`` is ``SOURCE/`` and the ICU stay, which is what charted
  values belong to and what ICU cohorts ask for; the admission where a row has no stay. MIMIC draws subject, admission
  and stay ids from ranges that do not meet, so one form serves all three.
- ``device_id`` is the table, ``SOURCE/chartevents``: no device is named, and the stay must not be part of an
  observation's identity, since editions assign it anew.
- ``source_code`` is the item id: two items that chart one signal at one instant are two observations.
- ``message_id`` and ``record_id`` come from the row alone, so that replay and backfill agree: MIMIC-III's ``row_id``;
  MIMIC-IV has none, so a hash of what the row says (see ``identity``), and a number for exact repeats.
- ``storetime`` is ``recorded_at``; where there is none the message has none.
- The number is ``valuenum``, as in mimic-code, but where the map of items has another for the row's text. A row with a
  text alone carries it as ``value_code``; a row with neither is counted and not sent, since the contract has no message
  without a value.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from lakehouse.message import SCHEMA_VERSION, Message
from lakehouse.sources.hospital import HospitalSource
from lakehouse.sources.instants import instant, number, rfc3339
from lakehouse.sources.items import Item, items
from lakehouse.sources.rows import LINE, LINE_BREAK, Columns, as_text, find, in_order, read
from lakehouse.sources.source import Event, Selection, SourceHeaderError, SourceNotFoundError, Tally

_TEXT_LIMIT = 64
"""The contract's longest value_code and unit."""

_ID_LIMIT = 64
"""MIMIC's ids have ten digits at most; the contract takes 256 characters, the names of source and table among them."""


class Row(NamedTuple):
    """One mapped row of chartevents, cells as they are; an absent cell is empty."""

    row_id: str
    subject: str
    admission: str
    stay: str
    item: str
    charttime: str
    storetime: str
    value: str
    valuenum: str
    unit: str
    error: str
    line: int
    table: int


@dataclass(frozen=True)
class Layout:
    """How an edition of MIMIC names one table; ``stay``, ``row_id`` and ``error`` are None for a column it has not.

    ``item_map`` is the vocabulary's map of its items. A folder may lack an ``optional`` table.
    """

    table: str
    files: tuple[str, ...]
    item_map: str
    stay: str | None = None
    row_id: str | None = None
    error: str | None = None
    optional: bool = False

    @property
    def columns(self) -> Columns:
        """What the header must have, and what it may lack."""
        row_id, stay, error = ((name,) if name else () for name in (self.row_id, self.stay, self.error))
        return Columns(
            required=(*row_id, "subject_id", "itemid", "charttime", "valuenum"),
            optional=("hadm_id", *stay, "storetime", "value", "valueuom", *error),
        )

    @property
    def cells(self) -> tuple[str | None, ...]:
        """The column behind each field of a Row."""
        return (
            self.row_id, "subject_id", "hadm_id", self.stay, "itemid", "charttime", "storetime", "value", "valuenum",
            "valueuom", self.error, LINE,
        )  # fmt: skip


@dataclass(frozen=True)
class ChartedSource:
    """The tables of values of one edition as a source; the first is the chart, which no folder may lack."""

    name: str
    tables: tuple[Layout, ...]

    def events(self, path: Path, selection: Selection, tally: Tally, scratch: Path | None = None) -> Iterator[Event]:
        """See :meth:`lakehouse.sources.source.Source.events`. A single file is of the table that its name says."""
        files = self._files(path, tally)
        mapped = {table: items(self.tables[table].item_map) for table in files}
        rejected: Counter[int] = Counter()
        rows_of: Counter[int] = Counter()

        def read_all() -> Iterator[Any]:
            for table, file in files.items():
                layout, rows_before, bad_before = self.tables[table], tally.rows_read, tally.rejected_rows.total()
                batches = read(file, layout.columns, tally)
                yield from _mapped(batches, layout, table, mapped[table], selection, file, tally)
                rows_of[table] = tally.rows_read - rows_before
                rejected[table] = tally.rejected_rows.total() - bad_before

        repeats = _Repeats()
        for rows in in_order(read_all(), ("charttime", "storetime", '"table"', "line"), scratch):
            for row in map(Row._make, rows):
                if selection.limit is not None and tally.messages >= selection.limit:
                    tally.not_selected += 1
                    continue
                bad_before = tally.rejected_rows.total()
                file, item = files[row.table], mapped[row.table][row.item]
                message = self._message(row, item, repeats, selection, file, tally)
                rejected[row.table] += tally.rejected_rows.total() - bad_before
                if message is not None:
                    tally.sent(message)
                    yield Event(file, row.line, message)
        for table, file in files.items():
            if 0 < rows_of[table] == rejected[table]:
                first = next((problem for problem in tally.problems if problem.startswith(f"{file.name}:")), "")
                raise SourceHeaderError(f"{file}:1: not one row fits the header; the first: {first}")

    def _files(self, path: Path, tally: Tally) -> dict[int, Path]:
        """The file of each table that is there, by the table's number."""
        if path.is_file():
            named = (n for n, layout in enumerate(self.tables) if path.name.lower().startswith(f"{layout.table}."))
            return {next(named, 0): path}
        found = {}
        for table, layout in enumerate(self.tables):
            try:
                found[table] = find(path, *layout.files)
            except SourceNotFoundError:
                if not layout.optional:
                    raise
                tally.missing_files.append(layout.files[0])
        return found

    def resources(self, path: Path, selection: Selection, tally: Tally) -> Iterator[Event]:
        """See :meth:`lakehouse.sources.source.Source.resources`."""
        if path.is_file():
            return iter(())
        stay = self.tables[0].stay
        assert stay is not None  # noqa: S101 - a chart is of a stay
        return HospitalSource(self.name, stay).events(path, selection, tally)

    def _message(
        self, row: Row, item: Item, repeats: "_Repeats", selection: Selection, file: Path, tally: Tally
    ) -> Message | None:
        layout = self.tables[row.table]
        if swallowed := "".join(row[:-2]).count("\n"):
            tally.reject(LINE_BREAK, file, row.line, f"{swallowed} more lines lie within its quotes: {row.value}")
            return None
        observed_at = instant(row.charttime)
        if observed_at is None:
            tally.reject("bad_charttime", file, row.line, row.charttime)
            return None
        if not row.subject.isdigit() or len(row.subject) > _ID_LIMIT:
            tally.reject("bad_subject_id", file, row.line, row.subject)
            return None
        if layout.row_id and (not row.row_id.isdigit() or len(row.row_id) > _ID_LIMIT):
            tally.reject("bad_row_id", file, row.line, row.row_id)
            return None
        if len(encounter := row.stay or row.admission) > _ID_LIMIT:
            tally.reject("bad_encounter_id", file, row.line, encounter)
            return None
        if not selection.has_time(observed_at):
            tally.not_selected += 1
            return None
        text = row.valuenum.strip() or row.value.strip()
        if not text:
            tally.rows_without_value[row.item] += 1
            return None
        record_id = row.row_id if layout.row_id else repeats.numbered(observed_at, identity(row))
        message = charted_message(self.name, layout.table, row, item, record_id, observed_at)
        _tell_flaws(row, message, text, file, tally)
        return message


def identity(row: Row) -> str:
    """32 hexadecimal digits of what a row without an id says: subject, stay, item, time, value and unit.

    Ids and times count by value and not by spelling, so that csv and parquet agree. The store time is left out: an
    edition without it gives the same ids.
    """
    charted = row.valuenum.strip()
    value = number(charted)
    parts = (
        row.subject,
        row.stay,
        row.item,
        str(instant(row.charttime)),
        repr(value) if charted else row.value,
        row.unit,
    )
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def charted_message(source: str, table: str, row: Row, item: Item, record_id: str, observed_at: datetime) -> Message:
    """The row of one table as a message of the contract. It has a value or a text."""
    message: Message = {
        "schema_version": SCHEMA_VERSION,
        "message_id": f"{source}/{table}/{record_id}",
        "patient_id": f"{source}/{row.subject}",
    }
    if encounter := row.stay or row.admission:
        message["encounter_id"] = f"{source}/{encounter}"
    message["device_id"] = f"{source}/{table}"
    message["source"] = source
    message["observed_at"] = rfc3339(observed_at)
    if (recorded_at := instant(row.storetime)) is not None:
        message["recorded_at"] = rfc3339(recorded_at)
    message["status"] = "entered-in-error" if row.error == "1" else "final"
    message["observations"] = [_observation(row, item, record_id)]
    return message


def _observation(row: Row, item: Item, record_id: str) -> dict[str, Any]:
    charted = row.valuenum.strip()
    value = item.number_for(row.value, number(charted))
    observation: dict[str, Any] = {"code": item.code}
    if value is not None:
        observation["value"] = value
    else:
        observation["value_code"] = (charted or row.value.strip())[:_TEXT_LIMIT]
    unit = item.unit_for(row.unit, value)[:_TEXT_LIMIT]
    observation["unit"] = unit
    observation["source_code"] = row.item
    if row.unit and row.unit != unit:
        observation["source_unit"] = row.unit[:_TEXT_LIMIT]
    observation["record_id"] = record_id
    return observation


class _Repeats:
    """Numbers exact repeats: the second row that says the same gets ``-2``.

    Rows come in order of time and equal rows have equal times, so only those of one instant are remembered.
    """

    def __init__(self) -> None:
        self._instant: datetime | None = None
        self._seen: Counter[str] = Counter()

    def numbered(self, observed_at: datetime, row_identity: str) -> str:
        if observed_at != self._instant:
            self._instant = observed_at
            self._seen.clear()
        self._seen[row_identity] += 1
        nth = self._seen[row_identity]
        return row_identity if nth == 1 else f"{row_identity}-{nth}"


def _tell_flaws(row: Row, message: Message, text: str, file: Path, tally: Tally) -> None:
    if row.storetime and "recorded_at" not in message:
        tally.flaw("bad_storetime", file, row.line, row.storetime)
    if "value_code" in message["observations"][0]:
        tally.text_values[row.item] += 1
        if len(text) > _TEXT_LIMIT:
            tally.flaw("text_cut", file, row.line, text)
    if len(row.unit) > _TEXT_LIMIT:
        tally.flaw("unit_cut", file, row.line, row.unit)


def _mapped(
    batches: Iterator[Any],
    layout: Layout,
    table: int,
    mapped: Mapping[str, Item],
    selection: Selection,
    file: Path,
    tally: Tally,
) -> Iterator[Any]:
    """The rows of selected subjects and mapped items, as texts; all others are counted here."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted_items = pa.array([item.encode() for item in mapped], pa.binary())
    wanted_subjects = (
        None if selection.subjects is None else pa.array([s.encode() for s in selection.subjects], pa.binary())
    )
    for whole in batches:
        batch = whole
        if wanted_subjects is not None:
            batch = whole.filter(pc.is_in(whole.column("subject_id"), value_set=wanted_subjects))
            tally.not_selected += whole.num_rows - batch.num_rows
        kept = pc.is_in(batch.column("itemid"), value_set=wanted_items)
        _count_unmapped(batch.filter(pc.invert(kept)), file, tally)
        rows = batch.filter(kept)
        if rows.num_rows:
            empty = pa.array([""] * rows.num_rows, pa.string())
            cells = [empty if name is None else as_text(rows.column(name)) for name in layout.cells]
            tables = pa.array([table] * rows.num_rows, pa.int8())
            yield pa.RecordBatch.from_arrays([*cells, tables], list(Row._fields))


def _count_unmapped(batch: Any, file: Path, tally: Tally) -> None:
    import pyarrow.compute as pc

    for entry in pc.value_counts(batch.column("itemid")).to_pylist():
        item: bytes = entry["values"]
        if item.isdigit():
            tally.unmapped_rows[item.decode()] += entry["counts"]
            continue
        for line in batch.filter(pc.equal(batch.column("itemid"), item)).column(LINE).to_pylist():
            tally.reject("bad_item_id", file, line, item.decode("utf-8", "replace"))
