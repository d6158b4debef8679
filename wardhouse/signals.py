"""SIGTERM and SIGINT as an event that a loop can wait on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT (Ctrl-C) sets; a second SIGINT ends the process at once.

    Only for the main thread.
    """
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        # In a thread: the handler may interrupt the main thread inside stop.wait(), which holds the event's lock.
        threading.Thread(target=stop.set).start()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
