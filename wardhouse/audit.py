"""Sending the audit records that were noted on the disk."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from alerting.compacted import TopicError, put
from lakehouse.audit import noted
from lakehouse.datadir import DataDir

log = logging.getLogger(__name__)

_PAUSE_S = 2.0


def send_notes(data: DataDir, bootstrap: str, topic: str) -> int:
    """Send what was noted and take it from the disk; how many records that were. Raises TopicError.

    What is sent twice, after a kill in between, counts once: its id is the same.
    """
    waiting = list(noted(data))
    if waiting:
        put(bootstrap, topic, {key: value for _, key, value in waiting}, timeout_s=5.0)
        for path, _, _ in waiting:
            # Another sender may have been quicker.
            path.unlink(missing_ok=True)
    return len(waiting)


@contextmanager
def sending(data: DataDir, bootstrap: str, topic: str) -> Iterator[None]:
    """Send what is noted while the block runs, and once more at its end."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.is_set():
            _try(data, bootstrap, topic)
            stop.wait(_PAUSE_S)

    thread = threading.Thread(target=follow, name="audit-notes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        _try(data, bootstrap, topic)


def _try(data: DataDir, bootstrap: str, topic: str) -> None:
    try:
        send_notes(data, bootstrap, topic)
    except (TopicError, OSError) as error:
        log.warning("audit: records wait on the disk: %s", error)
