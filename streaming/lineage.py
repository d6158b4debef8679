"""The runs of an application's flows as lineage: each start of a query is one."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.lineage import Kind, Places, Sender, event, of_flow
from lakehouse.pipeline import Flow
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

HEARD_EVERY = timedelta(hours=1)
"""How often a run that goes on says so."""


class FlowRuns:
    """Tells of queries that began, go on and ended since it looked last. Without a sender it tells nobody."""

    def __init__(self, sender: Sender | None, config: StreamConfig, clock: Callable[[], datetime]) -> None:
        self._sender, self._clock = sender, clock
        self._places = Places(config.data, config.bootstrap, config.topics)
        self._runs: dict[Flow, tuple[StreamingQuery, datetime]] = {}

    def look(self, queries: "Mapping[Flow, StreamingQuery]") -> None:
        """Look at the queries that there are now; those of before that are not among them have ended."""
        if self._sender is None:
            return
        now = self._clock()
        for flow, (query, told_at) in list(self._runs.items()):
            if queries.get(flow) is not query:
                self._end(flow, query)
            elif now - told_at >= HEARD_EVERY:
                self._tell(flow, query, "RUNNING")
        for flow, query in queries.items():
            if flow not in self._runs:
                self._tell(flow, query, "START")

    def close(self) -> None:
        """Every query has ended."""
        if self._sender is not None:
            self.look({})
            self._sender.close()

    def _end(self, flow: Flow, query: "StreamingQuery") -> None:
        failure = query.exception()
        # Its condition and no more of it: the text of an error may hold what a patient sent.
        error = None if failure is None else failure.getCondition() or "failed: its log says why"
        self._tell(flow, query, "COMPLETE" if failure is None else "FAIL", error)
        del self._runs[flow]

    def _tell(self, flow: Flow, query: "StreamingQuery", kind: Kind, error: str | None = None) -> None:
        assert self._sender is not None  # noqa: S101 (asked before)
        now = self._clock()
        self._runs[flow] = query, now
        self._sender.send(event(of_flow(flow), str(query.runId), (kind, now), self._places, error))
