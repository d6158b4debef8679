"""InfluxDB 1: rows as points by the line protocol, over HTTP.

There are no transactions: the points of a step are written, then how far they go. A point that is written again is the
same point, so that a step which was cut off is taken again. Where a row changes that may have NULLs, its point is taken
away first, since a point keeps every field that a later one of its time does not name.
"""

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from lakehouse.sinks.changes import Position, Rows, Step
from lakehouse.sinks.declaration import Sink
from lakehouse.sinks.flat import row_by_row, together
from lakehouse.sinks.series import PointError, deletion, has_gaps, line
from lakehouse.sinks.store import PROGRESS, StoreError, usable
from lakehouse.table import Table

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 60.0
_POINTS = 5_000
"""In one request, as InfluxData advises."""
_DELETIONS = 200
"""In one request: each is a statement."""
_SAID = 300
"""Characters of an answer that an error repeats."""


def connect(sink: Sink) -> "_InfluxDB":
    """A client of the server. Raises StoreError where it does not answer."""
    import httpx

    client = httpx.Client(
        base_url=f"{'https' if sink.tls else 'http'}://{sink.host}:{sink.port}",
        # By a header: the server writes the addresses that it is asked for into its log.
        auth=(sink.user, sink.password) if sink.user else None,
        timeout=_TIMEOUT_S,
        verify=ssl.create_default_context(cafile=str(sink.ca) if sink.ca else None) if sink.tls else True,
        trust_env=False,
    )
    store = _InfluxDB(client, sink)
    store.ping()
    return store


class _InfluxDB:
    def __init__(self, client: "httpx.Client", sink: Sink) -> None:
        self._client = client
        self._database = sink.database
        self._sink = sink

    def ping(self) -> str:
        """The server's version."""
        return str(self._ask("GET", "/ping").headers.get("X-Influxdb-Version", ""))

    def prepare(self) -> None:
        if self._database not in self._databases():
            self._query(f'CREATE DATABASE "{self._database}"')

    def position(self, table: Table) -> Position | None:
        found = self._query(
            f'SELECT "table_id", "version" FROM "{PROGRESS}" WHERE "table" = \'{table.full_name}\''  # noqa: S608
        )
        for series in found.get("series", ()):
            row = dict(zip(series["columns"], series["values"][-1], strict=True))
            return Position(row["table_id"], row["version"])
        return None

    def apply(self, step: Step, rows: Rows, pulse: Callable[[int], None]) -> None:
        with _told():
            if step.before is None:
                self._query(f'DROP MEASUREMENT "{step.table.name}"')
            else:
                outdated = chain(rows.gone(), rows.updated() if has_gaps(step.table) else ())
                for keys in together(row_by_row(outdated), _DELETIONS):
                    self._query("\n".join(f"{deletion(step.table, key)};" for key in keys))
                    pulse(0)
            for some in together(row_by_row(rows.written()), _POINTS):
                self._write("\n".join(line(step.table, row) for row in some))
                pulse(len(some))
        after = step.after
        self._write(f'{PROGRESS},table={step.table.full_name} table_id="{after.table_id}",version={after.version}i 0')

    def forget(self, tables: Iterable[Table]) -> None:
        for table in tables:
            self._query(f'DROP SERIES FROM "{PROGRESS}" WHERE "table" = \'{table.full_name}\'')

    def check(self) -> tuple[str, ...]:
        self.prepare()
        self._write("ward_sink_check one=1 0")
        self._query('DROP MEASUREMENT "ward_sink_check"')
        return usable(f"InfluxDB {self.ping()}", self._sink)

    def close(self) -> None:
        self._client.close()

    def _databases(self) -> set[str]:
        series = self._query("SHOW DATABASES").get("series", ())
        return {str(value) for one in series for (value,) in one.get("values", ())}

    def _query(self, statement: str) -> Mapping[str, Any]:
        """The first result of one or more statements."""
        answer = self._ask("POST", "/query", params={"db": self._database}, data={"q": statement}).json()
        for result in answer.get("results", ()):
            # Nothing was there to be taken away.
            if (error := result.get("error")) and not str(error).startswith("measurement not found"):
                raise StoreError(f"InfluxDB: {error}")
        results: list[Mapping[str, Any]] = answer.get("results", [])
        return results[0] if results else {}

    def _write(self, points: str) -> None:
        self._ask("POST", "/write", params={"db": self._database, "precision": "u"}, content=points.encode())

    def _ask(self, method: str, path: str, **options: Any) -> "httpx.Response":
        import httpx

        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise StoreError(f"InfluxDB: {error or type(error).__name__}") from error
        if answer.status_code not in (200, 204):
            raise StoreError(f"InfluxDB answers {answer.status_code}: {answer.text.strip()[:_SAID]}")
        return answer


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except PointError as error:
        raise StoreError(str(error)) from error
