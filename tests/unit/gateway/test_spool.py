import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.ingest import Record
from gateway.spool import Spool, SpoolError, SpoolFullError

_APPEND_UNTIL_KILLED = """
import sys
from pathlib import Path
from gateway.ingest import Record
from gateway.spool import Spool
spool = Spool(Path(sys.argv[1]), 10_000_000, file_bytes=300)
number = 0
while True:
    spool.append([Record(str(number), b"ward/1", b"{}", "vitals")])
    print(number, flush=True)
    number += 1
"""


def record(number: int, size: int = 2) -> Record:
    return Record(f"m-{number}", b"ward/1", ("\u00e4" * size).encode(), "clinical.resource")


def everything(spool: Spool, most: int = 3) -> list[Record]:
    """All records, each batch noted as sent."""
    found: list[Record] = []
    while (batch := spool.oldest(most)) is not None:
        found.extend(batch.records)
        spool.sent(batch)
    return found


def test_records_come_out_in_their_order_and_leave_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 100_000, file_bytes=300)
    sent = [record(number) for number in range(20)]

    for one in range(0, 20, 2):
        spool.append(sent[one : one + 2])
    was_empty, files = spool.empty, len(list((tmp_path / "spool").glob("*.spool")))

    assert (was_empty, files > 1) == (False, True)
    assert everything(spool) == sent
    assert (spool.empty, spool.bytes, list((tmp_path / "spool").glob("*.spool"))) == (True, 0, [])
    spool.append(sent[:1])
    assert everything(spool) == sent[:1]


def test_what_was_not_sent_is_there_for_the_next_gateway(tmp_path: Path) -> None:
    first = Spool(tmp_path, 100_000)
    first.append([record(number) for number in range(5)])
    batch = first.oldest(2)
    assert batch is not None
    first.sent(batch)
    first.close()

    second = Spool(tmp_path, 100_000)
    second.append([record(5)])

    # Where a file was left half sent it is sent again from its start: twice is harmless, never is not.
    assert everything(second) == [record(number) for number in range(6)]


def test_a_full_spool_takes_no_part_of_what_is_too_much(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 300)
    spool.append([record(1)])

    with pytest.raises(SpoolFullError, match=r"^the spool holds "):
        spool.append([record(2), record(3, size=200)])

    assert everything(spool) == [record(1)]
    spool.append([record(2)])
    assert everything(spool) == [record(2)]


def test_a_line_that_a_kill_has_cut_is_left_out_and_one_in_the_middle_is_told(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100_000, file_bytes=1)
    spool.append([record(1)])
    spool.append([record(2)])
    spool.close()
    first, last = sorted(tmp_path.glob("*.spool"))

    with last.open("ab") as content:
        content.write(b"0123abcd {")
    again = Spool(tmp_path, 100_000)
    assert everything(again) == [record(1), record(2)]
    again.append([record(1)])
    again.append([record(2)])
    again.close()
    first.write_bytes(b"broken\n")

    with pytest.raises(SpoolError, match=f"^{first} is damaged at byte 0: move it away"):
        Spool(tmp_path, 100_000)


def test_one_gateway_uses_a_folder(tmp_path: Path) -> None:
    first = Spool(tmp_path, 100_000)
    with pytest.raises(SpoolError, match="another gateway uses the spool"):
        Spool(tmp_path, 100_000)
    first.close()
    Spool(tmp_path, 100_000).close()


def test_a_disk_that_is_full_takes_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from gateway.spool import Spool, SpoolFullError
from tests.unit.gateway.test_spool import everything, record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(Path(sys.argv[1]), 10_000_000)
spool.append([record(1)])
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    spool.append([record(2, size=2000)])
except SpoolFullError as error:
    print(error)
spool.append([record(3)])
print([one.message_id for one in everything(spool)])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])},
    )

    assert done.stdout.splitlines() == ["the spool cannot be written: File too large", "['m-1', 'm-3']"]


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", _APPEND_UNTIL_KILLED, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(50)]
        process.kill()
        told += process.stdout.readlines()

    acknowledged = [line.strip() for line in told if line.endswith("\n")]
    kept = [one.message_id for one in everything(Spool(tmp_path, 10_000_000))]
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) - len(acknowledged) in (0, 1)
