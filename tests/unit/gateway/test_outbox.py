"""The outbox where a disk fails; with a real broker it is in tests/integration/test_ways_in.py."""

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway import outbox
from gateway.ingest import Receipt, Record
from gateway.live import LatestVitals
from gateway.metrics import Metrics
from gateway.outbox import Outbox
from gateway.spool import Spool
from lakehouse.datadir import DataDir


class Sender:
    """Takes every record; the broker itself has no part in what a disk does."""

    def __init__(self) -> None:
        self.got: list[str] = []

    async def send(self, records: Sequence[Record]) -> list[Receipt]:
        self.got += [record.message_id for record in records]
        return [Receipt(record.message_id, 0, 0) for record in records]


def test_a_disk_that_cannot_be_read_for_a_while_costs_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "_LONG_PAUSE_S", 0.0)
    spool, sender = Spool(tmp_path / "spool", 1_000_000), Sender()
    spool.append([Record(f"m{number}", b"key", b"{}") for number in range(3)])
    oldest, failures = spool.oldest, iter([OSError(errno.EIO, "Input/output error")])

    def failing(most: int) -> object:
        if error := next(failures, None):
            raise error
        return oldest(most)

    monkeypatch.setattr(spool, "oldest", failing)

    async def run() -> None:
        filled = Outbox(sender, spool, Metrics(DataDir(tmp_path), LatestVitals(), spool))
        filled.start()
        async with asyncio.timeout(10):
            while not spool.empty:
                await asyncio.sleep(0.01)
        await filled.stop()

    asyncio.run(run())
    assert sender.got == ["m0", "m1", "m2"]
    assert "the spool cannot be read: [Errno 5] Input/output error" in caplog.text
