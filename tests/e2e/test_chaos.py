"""The short form of ``python -m bench chaos``: two components are killed under load."""

from pathlib import Path

import pytest

from bench.bench_chaos import chosen, run, show
from bench.chaos.stack import Load
from lakehouse.datadir import DataDir
from tests.fixtures.stack import processes_of


def test_of_what_was_sent_while_components_were_killed_nothing_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = chosen("kill router,kill stream-alerts")
    found = run(faults, kills=2, load=Load(patients=40, rate=40), seed=1, place=tmp_path)
    with capsys.disabled():
        show(found)
    assert found["holds"], found
    assert sorted(row["fault"] for row in found["by_fault"]) == ["kill router", "kill stream-alerts"]
    assert found["acknowledged"] > 0
    assert found["ledger"]["totals"]["bronze_rows"] > found["acknowledged"]
    assert processes_of(DataDir(tmp_path / "ward")) == []
