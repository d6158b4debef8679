"""The ECG of some patients of a cohort, sent beside their vital signs as it is made: a second of each lead at a time.

It is sent by a thread of its own with a producer of its own, so that neither stream waits for the other, and it is not
in the truth file: the same seed and start give the same samples. The heart beats at each patient's rate at rest.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import NamedTuple

from lakehouse.ecg.message import encode
from streaming.producer import Producer, ProducerError
from streaming.simulator.cohort import SIGNALS, cohort
from streaming.simulator.ecg import Ecg
from streaming.simulator.simulation import SOURCE, Options

RATE = 250.0
"""Hz, as many bedside monitors have it."""

CHUNK_S = 1
_FLUSH_S = 20.0

_log = logging.getLogger(__name__)


class Chunk(NamedTuple):
    """A record to send when ``due``, seconds after the start."""

    due: float
    key: bytes
    value: bytes


def records(options: Options, patients: int) -> Iterator[Chunk]:
    """Chunks of the first patients of the cohort, without end, each due when its last sample was taken."""
    chosen = cohort(options.seed, options.patients, options.start, options.beds)
    rates = chosen.resting[:, SIGNALS.index("heart_rate")]
    hearts = [
        (Ecg(one.patient_id, one.device_id, options.start, RATE, seed=number), float(rates[number]))
        for number, one in enumerate(chosen.patients[:patients])
    ]
    second = 0
    while True:
        second += CHUNK_S
        for heart, rate in hearts:
            for chunk in heart.read(CHUNK_S, rate):
                name = f"{options.run}/{chunk.patient_id}/{chunk.signal}/{second}"
                yield Chunk(float(second), chunk.patient_id.encode(), encode(chunk, name, SOURCE))


@contextmanager
def sending(options: Options, patients: int, bootstrap_servers: str, topic: str) -> Iterator[None]:
    """Send for the block, a chunk when it is due. Raises ProducerError, where the sending failed at the end of it."""
    stop, failures = Event(), list[ProducerError]()

    def work() -> None:
        try:
            with Producer(bootstrap_servers, client_id="ward-simulator-waveform") as producer:
                _pace(records(options, patients), producer, topic, stop)
                producer.flush(_FLUSH_S)
        except ProducerError as error:
            _log.error("waveforms are not sent any more: %s", error)
            failures.append(error)

    thread = Thread(target=work, name="waveform")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def _pace(chunks: Iterator[Chunk], producer: Producer, topic: str, stop: Event) -> None:
    began = monotonic()
    for chunk in chunks:
        if stop.wait(max(0.0, chunk.due - (monotonic() - began))):
            return
        producer.send(topic, chunk.key, chunk.value)
        producer.settle()
