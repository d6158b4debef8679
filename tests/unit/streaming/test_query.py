from datetime import UTC, datetime

import pytest

from lakehouse.datadir import DataDir
from lakehouse.delta import Write
from lakehouse.pipeline import OBSERVATION
from streaming.query import identities, progress_record

NOW = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)
KAFKA = {
    "batchId": 7,
    "numInputRows": 120,
    "processedRowsPerSecond": 40.5,
    "durationMs": {"triggerExecution": 2950, "addBatch": 2000},
    "sources": [
        {
            "endOffset": {"vitals": {"0": 90, "1": 30}},
            "latestOffset": {"vitals": {"0": 100, "1": 30}},
            "metrics": {"avgOffsetsBehindLatest": "5.0", "maxOffsetsBehindLatest": "10"},
        }
    ],
    "observedMetrics": {"batch": {"rows": 120, "oldest_received_at": 1, "newest_received_at": 2}},
}
DELTA = {"sourceVersion": 1, "reservoirId": "0efa6ae4", "reservoirVersion": 8, "index": -1}


def test_progress_is_what_people_ask_for_lag_in_records_and_the_span_of_what_was_received():
    assert progress_record(KAFKA, NOW) == {
        "at": "2026-03-01T12:00:00.500000+00:00",
        "idle": False,
        "batch_id": 7,
        "rows": 120,
        "rows_per_second": 40.5,
        "lag": 10,
        "duration_ms": 2950,
        "durations_ms": {"triggerExecution": 2950, "addBatch": 2000},
        "committed_at": 1772366400500,
        "oldest_received_at": 1,
        "newest_received_at": 2,
    }


@pytest.mark.parametrize(
    ("source", "lag"),
    [
        ({"metrics": {"numFilesOutstanding": "3", "numBytesOutstanding": "900"}}, None),
        ({"metrics": {"numFilesOutstanding": "0"}}, 0),
        ({"metrics": {}}, None),
        ({"endOffset": DELTA, "latestOffset": DELTA, "metrics": {}}, None),
        ({"endOffset": None, "latestOffset": None, "metrics": {"avgOffsetsBehindLatest": "0.0"}}, 0),
        (
            {"endOffset": {"v": {"0": 9}}, "latestOffset": {"v": {"0": 0}}, "metrics": {"avgOffsetsBehindLatest": "0"}},
            None,
        ),
    ],
    ids=["files", "no_files", "says_nothing", "delta_does_not_say", "kafka_before_data", "real_time"],
)
def test_lag_is_what_the_source_says_of_it(source, lag):
    assert progress_record(KAFKA | {"sources": [source]}, NOW)["lag"] == lag


def test_a_batch_without_rows_has_no_instants_and_no_rate():
    bare = {"batchId": 0, "numInputRows": 0, "sources": []}
    record = progress_record(bare, NOW)
    assert (record["rows_per_second"], record["duration_ms"], record["oldest_received_at"], record["lag"]) == (
        0.0,
        0,
        None,
        0,
    )


def test_a_write_is_named_after_flow_generation_and_action(tmp_path):
    data = DataDir(tmp_path)
    assert identities(data, OBSERVATION)("quarantine", 7) == Write("observation/1/quarantine", 7)
    for generation in ("2", "10"):
        (data.checkpoints / "observation" / generation).mkdir(parents=True)
    before = identities(data, OBSERVATION)
    assert before("quarantine", 7) == Write("observation/10/quarantine", 7)
    (data.checkpoints / "observation" / "11").mkdir()
    # A running flow keeps the generation it started with.
    assert before("quarantine", 8) == Write("observation/10/quarantine", 8)
