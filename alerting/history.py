"""The past as the router would see it: rows of silver as evaluations, in the order in which their messages came.

Silver holds each value of a message as a row of its own, already normalised: valid ones in silver.observation, the
others in silver.observation_quarantine with the constraints that they break. Together they give what the alert flow
made of the message, with two exceptions. What a device says of itself (battery, lead off) stands in the messages alone:
give it as ``devices``. And a value that came a second time, under the same ids, is not here a second time.

Any number of patients goes through in one pass, in Arrow until the rows of one message are put together.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from alerting.bands import Arms, arms, band_of
from alerting.evaluation import Evaluation, Reading
from alerting.limits import LimitError, OwnLimits, with_own
from alerting.pack import Pack

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "topic",
    "partition",
    "offset",
    "patient_id",
    "device_id",
    "source",
    "location_unit",
    "location_bed",
    "code",
    "value",
    "value_code",
    "status",
    "observed_at",
    "received_at",
    "message_id",
)
"""What is needed of silver.observation; of the quarantine also ``failed_constraints``."""

Arrival = Literal["received_at", "recorded_at", "observed_at"]
"""Which instant counts as the one at which a message came."""

_BATCH_ROWS = 65_536


class Place(NamedTuple):
    """The bronze record of a message."""

    topic: str
    partition: int
    offset: int


class Device(NamedTuple):
    """What a device said of itself in a message."""

    lead_off: bool = False
    battery: float | None = None


_NOTHING_SAID = Device()


def usable(pack: Pack, own: Iterable[OwnLimits]) -> tuple[tuple[OwnLimits, ...], tuple[str, ...]]:
    """The own limits that a pack takes, and why it does not take the others: the router leaves those out too."""
    taken, refused = [], []
    for limits in own:
        try:
            with_own(pack, [limits])
        except LimitError as error:
            refused.append(f"{limits.patient_id}: {error}")
        else:
            taken.append(limits)
    return tuple(taken), tuple(refused)


def evaluations(
    observations: "pa.Table",
    quarantined: "pa.Table | None",
    pack: Pack,
    *,
    own: Iterable[OwnLimits] = (),
    devices: Mapping[Place, Device] | None = None,
    arrival: Arrival = "received_at",
) -> Iterator[Evaluation]:
    """The evaluations of the messages that these rows come from, by a pack and by patients' own limits.

    The rows have COLUMNS, and the quarantine's ``failed_constraints``; in any order. A patient's own limits count for
    what came after they were set. Raises LimitError where the pack does not take them: see :func:`usable`.

    Messages come in the order of ``arrival``, which is also when the broker had them (for backfilled ones it is
    better observed_at: no broker ever had them). ``partition`` is 0 and ``offset`` counts them: rows of several
    topics and files may come together, and their own offsets would make one a repeat of another.
    """
    banded = _Bands(pack, own)
    known = devices or {}
    for number, rows in enumerate(_messages(_in_order(observations, quarantined, arrival))):
        yield _evaluation(rows, banded, known, number)


def devices(messages: "pa.Table") -> dict[Place, Device]:
    """What devices say of themselves in rows of bronze.device_message: topic, partition, offset, value.

    What is no message has nothing to say; what a message says nothing of is as the alert flow takes it.
    """
    columns = [messages.column(name).to_pylist() for name in (*Place._fields, "value")]
    found = {}
    for topic, partition, offset, value in zip(*columns, strict=True):
        said = _said(value)
        if said is not None:
            found[Place(topic, partition, offset)] = said
    return found


def _said(value: bytes | None) -> Device | None:
    try:
        status = orjson.loads(value or b"null")["device_status"]
        battery = status.get("battery")
        return Device(status.get("lead_off") is True, None if battery is None else float(battery))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        # A dead letter, or a message without it: neither says anything of its device.
        return None


_Row = tuple[Any, ...]
"""Place (3), patient, device, source, unit, bed, status, observed and came (ms), message; code, value, coded, fault."""

_OF_MESSAGE = 12


def _in_order(observations: "pa.Table", quarantined: "pa.Table | None", arrival: Arrival) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.compute as pc

    faults = pa.nulls(observations.num_rows, pa.string())
    parts = [observations.select(COLUMNS).append_column("fault", faults)]
    parts[0] = parts[0].append_column("came", observations.column(arrival))
    if quarantined is not None and quarantined.num_rows:
        # Of several the first counts, as in the alert flow.
        first = pc.list_element(quarantined.column("failed_constraints"), 0)
        bad = quarantined.select(COLUMNS).append_column("fault", first.cast(pa.string()))
        parts.append(bad.append_column("came", quarantined.column(arrival)))
    rows = pa.concat_tables(parts, promote_options="permissive")
    rows = rows.sort_by([(name, "ascending") for name in ("came", *Place._fields, "code")])
    names = (*COLUMNS[:8], "status", "observed_at", "came", "message_id", "code", "value", "value_code", "fault")
    for batch in rows.select(names).to_batches(max_chunksize=_BATCH_ROWS):
        columns = (_plain(column) for column in batch.columns)
        yield from zip(*columns, strict=True)


def _plain(column: "pa.Array") -> list[Any]:
    """A column as Python has it; instants as epoch milliseconds."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return list(column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64()).to_pylist())
    return list(column.to_pylist())


def _messages(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """The rows of each message together."""
    message: list[_Row] = []
    place: _Row = ()
    for row in rows:
        if row[:3] != place:
            if message:
                yield message
            message, place = [], row[:3]
        message.append(row)
    if message:
        yield message


class _Bands:
    """The bands of values by a pack, and by own limits from when they were set."""

    def __init__(self, pack: Pack, own: Iterable[OwnLimits]) -> None:
        self.label = pack.label
        self._arms = arms(pack)
        self._own: dict[tuple[str, str], tuple[int, Arms]] = {
            (limits.patient_id, limits.code): (limits.set_at, arms(with_own(pack, [limits]))) for limits in own
        }

    def reading(self, row: _Row) -> Reading:
        code, value, value_code, fault = row[_OF_MESSAGE:]
        if fault is not None:
            return Reading(code, "none", fault=fault)
        own = self._own.get((row[3], code)) if self._own else None
        if own is not None and own[0] <= row[10]:
            found = band_of(own[1], code, value, row[6])
        else:
            own, found = None, band_of(self._arms, code, value, row[6])
        return Reading(code, found.band, value, found.rule, found.limit, value_code, None, own is not None)


def _evaluation(rows: list[_Row], banded: _Bands, known: Mapping[Place, Device], number: int) -> Evaluation:
    (topic, partition, offset, patient_id, device_id, source, unit, bed, status, observed_at, came_at, message_id) = (
        rows[0][:_OF_MESSAGE]
    )
    # Of a value without a code nothing can be said; its message was heard all the same.
    readings = tuple(banded.reading(row) for row in rows if row[_OF_MESSAGE] is not None)
    said = known.get(Place(topic, partition, offset), _NOTHING_SAID) if known else _NOTHING_SAID
    quiet = not said.lead_off and all(
        one.band == "normal" or (one.value_code is not None and one.fault is None) for one in readings
    )
    return Evaluation(
        banded.label,
        message_id,
        patient_id,
        device_id,
        source,
        status or "",
        0,
        number,
        observed_at,
        came_at,
        readings,
        quiet,
        unit,
        bed,
        said.lead_off,
        said.battery,
    )
