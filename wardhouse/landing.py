"""Landing what is spooled: by the lakehouse application of the data dir, until bronze, silver and gold have all of it.

The one that runs on the data dir takes the rows up; where none runs, one without Kafka is started for as long as it
takes.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import token_hex

from lakehouse import pause, pipeline
from lakehouse.checkpoint import files_read
from lakehouse.datadir import DataDir
from lakehouse.pipeline import BACKFILL, EARLY_WARNING_SCORE
from lakehouse.spool import Spool
from lakehouse.tables import DEVICE_MESSAGE, OBSERVATION
from wardhouse.cluster import cluster_of
from wardhouse.component import Running, component, read_state
from wardhouse.errors import Failure
from wardhouse.pausing import LAKEHOUSE, lakehouse_state
from wardhouse.settings import Settings
from wardhouse.status import newest_data, versions_behind

COMPONENT = "backfill"
"""Who holds the spool of a data dir. It is emptied as a whole, so that two commands must not fill it at once."""
_FLOWS = (BACKFILL, pipeline.OBSERVATION, EARLY_WARNING_SCORE)
_POLL_S = 1.0
_START_S = 300.0


class StoppedError(Exception):
    """Somebody asked to stop before all had landed. The same command goes on where it ended."""


def fresh_run() -> str:
    """A new name of a run: when it began, and what tells it from another of the same second."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(3)}"


@dataclass
class Application:
    """The lakehouse application that takes up what is spooled. ``scores``: whether its scores are worth waiting for."""

    scores: bool
    check: Callable[[], None]


@contextmanager
def application(settings: Settings, data: DataDir) -> Iterator[Application]:
    """The one that runs on the data dir, or one started for the block. Raises Failure where it fails or is paused."""
    if pause.asked(data):
        raise Failure(f"the lakehouse is paused: `ward stream resume --data-dir {data.root}`, then give this again")
    if running := lakehouse_state(data):
        # Its scores come every five minutes.
        yield Application(scores=False, check=partial(_runs, data, running.name))
        return
    with component(data, LAKEHOUSE) as started, _started(settings, data, started) as check:
        yield Application(scores=True, check=check)


def _runs(data: DataDir, name: str) -> None:
    if not read_state(data, name):
        raise Failure(f"{name} has ended before all had landed: run the same command again")


@contextmanager
def _started(settings: Settings, data: DataDir, started: Running) -> Iterator[Callable[[], None]]:
    from lakehouse.cluster import ClusterError
    from lakehouse.session import SessionError
    from streaming.application import StreamError, run
    from streaming.config import StreamConfig
    from wardhouse.commands.stream import CORES, MEMORY
    from wardhouse.commands.stream import Application as Which

    config = StreamConfig(
        data=data,
        bootstrap="",
        topics=settings.topics(),
        jars=settings.jars,
        cores=CORES[Which.LAKEHOUSE],
        memory=MEMORY[Which.LAKEHOUSE],
        cluster=cluster_of(settings, CORES[Which.LAKEHOUSE]),
    )
    # Nothing is live: a batch begins when there is something for it.
    flows = tuple(replace(flow, trigger=timedelta(seconds=1)) for flow in _FLOWS)
    stop, ready = threading.Event(), threading.Event()
    failed: list[Exception] = []

    def work() -> None:
        try:
            run("backfill", flows, config, stop, ready.set, started.paused)
        except (SessionError, StreamError, ClusterError) as error:
            failed.append(error)
        finally:
            ready.set()

    def check() -> None:
        if failed:
            raise Failure(str(failed[0])) from failed[0]
        if not thread.is_alive():
            raise Failure("the lakehouse application has ended before all had landed: run the same command again")

    thread = threading.Thread(target=work, name=LAKEHOUSE)
    thread.start()
    try:
        in_time = ready.wait(_START_S)
        check()
        if not in_time:
            raise Failure(f"the lakehouse application is not ready after {_START_S:.0f} s: run the same command again")
        started.ready()
        yield check
    finally:
        stop.set()
        thread.join()


def land(data: DataDir, lakehouse: Application, stop: threading.Event, waiting: dict[str, int]) -> None:
    """Block until all that is spooled is in bronze, silver and gold, then empty the spool.

    ``waiting`` says meanwhile what each flow has not taken: files, or versions of a table.
    Raises StoppedError where ``stop`` is set before, Failure where the application ends.
    """
    spool, silver, scores = Spool(data), pipeline.OBSERVATION, EARLY_WARNING_SCORE
    taken = partial(files_read, data.checkpoint(BACKFILL))
    _until(lambda: {BACKFILL.name: len(spool.files() - taken())}, lakehouse, stop, waiting)
    newest = newest_data(data, DEVICE_MESSAGE)
    _until(lambda: {silver.name: versions_behind(data, silver, newest)}, lakehouse, stop, waiting)
    if lakehouse.scores:
        newest = newest_data(data, OBSERVATION)
        _until(lambda: {scores.name: versions_behind(data, scores, newest)}, lakehouse, stop, waiting)
    spool.clear()


def _until(
    left: Callable[[], dict[str, int]], lakehouse: Application, stop: threading.Event, waiting: dict[str, int]
) -> None:
    while any((now := left()).values()):
        waiting.update(now)
        lakehouse.check()
        if stop.wait(_POLL_S):
            raise StoppedError
    waiting.clear()
