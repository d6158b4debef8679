"""MongoDB, and what speaks its protocol: each row a document, written over the one with its key.

A row's key, as a document of its own, is its ``_id``: so a row that is written again is the same document. Nothing here
needs transactions, which a server that stands alone has not: the documents of a step are written, then how far they go,
and a step that was cut off is taken again. A table that is loaded is written beside the one that is read, and takes its
place when it is whole.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from lakehouse.privacy import PATIENT
from lakehouse.sinks.changes import Position, Rows, Step
from lakehouse.sinks.declaration import Sink
from lakehouse.sinks.flat import flat_name, is_nested, key_value, row_by_row, together
from lakehouse.sinks.store import PROGRESS, StoreError, late, usable
from lakehouse.table import Table

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection
    from pymongo.database import Database

_CONNECT_MS = 10_000
_ANSWER_MS = 600_000
_DOCUMENTS = 1_000
"""In one request: of one patient's minutes some 300 kB."""
_SAID = 300
"""Characters of an answer that an error repeats."""
_CHECK = "ward_sink_check"

Document = dict[str, Any]


def connect(sink: Sink) -> "_MongoDB":
    """A client of the server, or of the replica set that it is part of. Raises StoreError where it does not answer."""
    from pymongo import MongoClient

    with _told():
        client: MongoClient[Document] = MongoClient(
            sink.host,
            sink.port,
            username=sink.user,
            password=sink.password,
            tls=sink.tls,
            tlsCAFile=str(sink.ca) if sink.ca else None,
            appname="ward sink",
            w="majority",
            serverSelectionTimeoutMS=_CONNECT_MS,
            connectTimeoutMS=_CONNECT_MS,
            socketTimeoutMS=_ANSWER_MS,
            tz_aware=True,
        )
        store = _MongoDB(client, sink)
        try:
            store.ping()
        except BaseException:
            client.close()
            raise
    return store


def document(table: Table, row: Mapping[str, Any]) -> Document:
    """A row as a document: lists and structs are what they are, and NULL is a field that is not there."""
    nested = {column.name for column in table.columns if is_nested(column.type)}
    fields = {
        name: orjson.loads(value) if name in nested else value for name, value in row.items() if value is not None
    }
    return {"_id": identity(table, row), **fields}


def identity(table: Table, row: Mapping[str, Any]) -> Document:
    """The ``_id`` of a row: its key, instants in microseconds."""
    return {name: key_value(row[name]) for name in table.key}


class _MongoDB:
    def __init__(self, client: "MongoClient[Document]", sink: Sink) -> None:
        self._client = client
        self._database: Database[Document] = client[sink.database]
        self._progress: Collection[Document] = self._database[PROGRESS]
        self._sink = sink

    def ping(self) -> str:
        """The server's version."""
        return str(self._client.server_info()["version"])

    def prepare(self) -> None:
        with _told():
            # Asks for the user's rights too: `server_info` is answered to anybody.
            self._progress.find_one({})
            for table in self._sink.tables:
                _index(self._database[flat_name(table)], table)

    def position(self, table: Table) -> Position | None:
        with _told():
            found = self._progress.find_one({"_id": table.full_name})
        return Position(found["table_id"], found["version"]) if found else None

    def apply(self, step: Step, rows: Rows, pulse: Callable[[int], None]) -> None:
        if self.position(step.table) != step.before:
            raise late(step.table)
        with _told():
            if step.before is None:
                self._load(step.table, rows, pulse)
            else:
                self._change(step.table, rows, pulse)
            self._advance(step)

    def forget(self, tables: Iterable[Table]) -> None:
        with _told():
            self._progress.delete_many({"_id": {"$in": [table.full_name for table in tables]}})

    def check(self) -> tuple[str, ...]:
        with _told():
            version = self.ping()
            tried, renamed = self._database[_CHECK], self._database[f"{_CHECK}_renamed"]
            tried.drop()
            renamed.drop()
            tried.insert_one({"_id": 1})
            tried.create_index("one")
            tried.replace_one({"_id": 1}, {"one": 1})
            tried.rename(renamed.name)
            renamed.delete_one({"_id": 1})
            renamed.drop()
        return usable(f"MongoDB {version}", self._sink)

    def close(self) -> None:
        self._client.close()

    def _load(self, table: Table, rows: Rows, pulse: Callable[[int], None]) -> None:
        name = flat_name(table)
        beside = self._database[f"{name}_loading"]
        beside.drop()
        _index(beside, table)
        for some in together(row_by_row(rows.written()), _DOCUMENTS):
            beside.insert_many([document(table, row) for row in some], ordered=False)
            pulse(len(some))
        # In two commands: not everything that speaks the protocol knows `dropTarget`.
        self._database[name].drop()
        beside.rename(name)

    def _change(self, table: Table, rows: Rows, pulse: Callable[[int], None]) -> None:
        from pymongo import DeleteOne, ReplaceOne

        collection = self._database[flat_name(table)]
        for keys in together(row_by_row(rows.gone()), _DOCUMENTS):
            collection.bulk_write([DeleteOne({"_id": identity(table, key)}) for key in keys], ordered=False)
            pulse(0)
        for some in together(row_by_row(rows.written()), _DOCUMENTS):
            documents = (document(table, row) for row in some)
            collection.bulk_write(
                [ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in documents], ordered=False
            )
            pulse(len(some))

    def _advance(self, step: Step) -> None:
        from pymongo.errors import DuplicateKeyError

        name, before, after = step.table.full_name, step.before, step.after
        record = {"_id": name, "table_id": after.table_id, "version": after.version}
        if before is None:
            try:
                self._progress.insert_one(record)
            except DuplicateKeyError:
                raise late(step.table) from None
            return
        stood = {"_id": name, "table_id": before.table_id, "version": before.version}
        if self._progress.replace_one(stood, record).matched_count != 1:
            raise late(step.table)


def _index(collection: "Collection[Document]", table: Table) -> None:
    """By the patient, where each row has one, and the rest of the key: as people ask."""
    patient = [PATIENT] if any(column.name == PATIENT for column in table.columns) else []
    collection.create_index([(name, 1) for name in dict.fromkeys((*patient, *table.key))])


@contextmanager
def _told() -> Iterator[None]:
    from bson.errors import BSONError
    from pymongo.errors import BulkWriteError, PyMongoError

    try:
        yield
    except BulkWriteError as error:
        # Its own text has whole documents, which are patients' values.
        reasons = [str(failed.get("errmsg", "")) for failed in error.details.get("writeErrors", ())]
        raise StoreError(f"MongoDB: a write failed: {(*reasons, 'no reason given')[0][:_SAID]}") from None
    except (BSONError, PyMongoError) as error:
        raise StoreError(f"MongoDB: {' '.join(str(error).split())[:_SAID] or type(error).__name__}") from error
