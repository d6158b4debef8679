"""The DAGs as Airflow sees them, and each run over real Delta tables by Airflow's own commands."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lakehouse import snapshot
from lakehouse.datadir import DataDir
from lakehouse.pipeline import COHORTS
from lakehouse.pipeline import OBSERVATION as OBSERVATION_FLOW
from lakehouse.reader import query
from lakehouse.sources.mimic_iv import SOURCE as MIMIC_IV
from lakehouse.sources.source import Selection, Tally
from lakehouse.table import Table
from lakehouse.tables import DEVICE_MESSAGE, OBSERVATION, TABLES, VALIDATION_RESULT, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.mimic import write_mimic_iv
from wardhouse import backup
from wardhouse.commands import airflow
from wardhouse.settings import Settings

BIN = Path(sys.executable).parent
AT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
"""Within the hours that the DAG checks: Airflow's clock is the real one."""

DESCRIBE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

# As Airflow's own processes do.
sys.path.append(sys.argv[1])
bag = DagBag(sys.argv[1])
names = lambda assets: sorted(asset.name for asset in assets)


def bash_command(task):
    return task.partial_kwargs.get("bash_command") if task.is_mapped else getattr(task, "bash_command", None)


print("DAGS " + json.dumps({
    "errors": bag.import_errors,
    "spark": "pyspark" in sys.modules,
    "dags": {
        dag.dag_id: {
            "assets": names(getattr(dag.timetable.asset_condition, "objects", ())),
            "tasks": {
                task.task_id: {
                    "runs": bash_command(task),
                    "reads": names(task.inlets),
                    "writes": names(task.outlets),
                    "then": sorted(task.downstream_task_ids),
                }
                for task in dag.tasks
            },
        }
        for dag in bag.dags.values()
    },
}))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> tuple[DataDir, dict[str, str]]:
    """A data dir with an Airflow home whose database is made, and the environment of its processes."""
    data = DataDir(tmp_path_factory.mktemp("ward"))
    environment = {**os.environ, **airflow.environment(data, Settings(), port=1)}
    subprocess.run([BIN / "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    return data, environment


def write(data: DataDir, table: Table, rows: list[dict]) -> None:
    import deltalake
    import pyarrow as pa

    from tests.fixtures.delta import arrow_type

    schema = pa.schema([pa.field(c.name, arrow_type(c.type), nullable=c.nullable) for c in table.columns])
    deltalake.write_deltalake(data.table(table), pa.Table.from_pylist(rows, schema=schema), mode="append")


def observation(number: int, value: float) -> dict:
    return {
        "observation_id": number.to_bytes(16, "big"),
        "version": b"v" * 16,
        "patient_id": "mrn/1",
        "device_id": "monitor-1",
        "source": "monitor",
        "code": "8867-4",
        "value": value,
        "unit": "/min",
        "status": "final",
        "observed_at": AT,
        "received_at": AT,
        "recorded_at": AT,
        "recorded_at_inferred": False,
        "source_value": value,
        "message_id": f"m{number}",
        "values_in_message": 1,
        "topic": "vitals",
        "partition": 0,
        "offset": number,
    }


def minute(patient_id: str, at: datetime, value: float) -> dict:
    statistics = dict.fromkeys(("min", "mean", "max", "first", "last"), value)
    return {"patient_id": patient_id, "code": "8867-4", "minute": at, "unit": "/min", "count": 60, **statistics}


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of a receiver of webhooks, and what it has got."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep requests out of what a test prints."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    thread.join()
    server.server_close()


def run_dag(environment: dict[str, str], dag_id: str, conf: dict) -> subprocess.CompletedProcess[str]:
    command = [BIN / "airflow", "dags", "test", dag_id, "--conf", json.dumps(conf)]
    return subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_the_dags_load_without_spark_and_are_shaped_as_declared(home):
    _, environment = home
    described = subprocess.run(
        [sys.executable, "-c", DESCRIBE, airflow.DAGS], env=environment, text=True, check=True, capture_output=True
    )

    line = next(line for line in described.stdout.splitlines() if line.startswith("DAGS "))
    assert json.loads(line.removeprefix("DAGS ")) == {
        "errors": {},
        "spark": False,
        "dags": {
            "data_quality": {
                "assets": [
                    "bronze.device_message",
                    "gold.alert",
                    "gold.alert_delivery",
                    "gold.alert_event",
                    "gold.alert_notification",
                    "gold.audit_event",
                    "gold.early_warning_score",
                    "gold.risk_score",
                    "gold.score_input",
                    "gold.vital_sign_minute",
                    "silver.clinical_resource",
                    "silver.dead_letter",
                    "silver.encounter",
                    "silver.observation",
                    "silver.observation_quarantine",
                    "silver.patient",
                ],
                "tasks": {
                    "check_tables": {
                        "runs": 'ward quality run "$LIVE" --hours "$HOURS" --run-id "$RUN_ID"',
                        "reads": [],
                        "writes": ["quality.validation_result"],
                        "then": ["build_docs"],
                    },
                    "build_docs": {"runs": "ward quality docs", "reads": [], "writes": [], "then": []},
                    "hold_error_budget": {
                        "runs": 'ward quarantine budget --limit "$BUDGET" --days 1',
                        "reads": [],
                        "writes": [],
                        "then": [],
                    },
                },
            },
            "mimic_backfill": {
                "assets": [],
                "tasks": {
                    "split": {
                        "runs": 'ward backfill --source "$SOURCE" --path "$FOLDER" --split "$BUCKETS"'
                        ' --reason "$REASON" ${SINCE:+--from "$SINCE"} ${UNTIL:+--to "$UNTIL"}'
                        ' ${SUBJECTS:+--subjects "$SUBJECTS"}',
                        "reads": [],
                        "writes": [],
                        "then": ["buckets"],
                    },
                    "buckets": {"runs": None, "reads": [], "writes": [], "then": ["land"]},
                    "land": {
                        "runs": 'ward backfill --source "$SOURCE" --path "$BUCKET" --reason "$REASON"',
                        "reads": [],
                        "writes": sorted(OBSERVATION_FLOW.writes),
                        "then": [],
                    },
                },
            },
            "model_training": {
                "assets": [],
                "tasks": {
                    "train": {
                        "runs": 'ward model train ${SNAPSHOT:+--snapshot "$SNAPSHOT"} ${PROMOTE:+--promote}',
                        "reads": [],
                        "writes": [],
                        "then": [],
                    },
                },
            },
            "model_scoring": {
                "assets": [],
                "tasks": {
                    "score": {
                        "runs": 'ward model score --since "$SINCE" --until "$UNTIL" --every "$EVERY"'
                        ' ${VERSION:+--version "$VERSION"}',
                        "reads": [],
                        "writes": ["gold.risk_score"],
                        "then": [],
                    },
                },
            },
            "model_drift": {
                "assets": [],
                "tasks": {
                    "look_at_drift": {
                        "runs": 'ward model drift --days "$DAYS" ${RETRAIN:+--retrain}',
                        "reads": [],
                        "writes": [],
                        "then": [],
                    },
                },
            },
            "research_snapshot": {
                "assets": [],
                "tasks": {
                    "create": {
                        "runs": 'ward snapshot create "$NAME"',
                        "reads": [],
                        "writes": [],
                        "then": ["verify"],
                    },
                    "verify": {
                        "runs": 'ward snapshot verify "$NAME" --rebuild',
                        "reads": [],
                        "writes": [],
                        "then": [],
                    },
                },
            },
            "stream_checkpoints": {
                "assets": [],
                "tasks": {
                    "look_at_lag": {
                        "runs": 'ward checkpoint list --max-lag "$MAX_LAG" --max-age "$MAX_AGE"',
                        "reads": [],
                        "writes": [],
                        "then": [],
                    },
                    "is_due": {"runs": None, "reads": [], "writes": [], "then": ["backup"]},
                    "backup": {
                        "runs": 'ward checkpoint backup "$NAME" --pause',
                        "reads": [],
                        "writes": [],
                        "then": [],
                    },
                },
            },
            "table_maintenance": {
                "assets": [],
                "tasks": {
                    "maintain_tables": {
                        "runs": 'ward maintain --pause --keep "$KEEP"',
                        "reads": [],
                        "writes": ["operation.table_maintenance"],
                        "then": [],
                    },
                },
            },
            "trend_reports": {
                "assets": [],
                "tasks": {
                    "list_units": {
                        "runs": 'ward report units --json --week "$WEEK" --zone "$ZONE"',
                        "reads": [],
                        "writes": [],
                        "then": ["units"],
                    },
                    "units": {"runs": None, "reads": [], "writes": [], "then": ["write_report"]},
                    "write_report": {
                        "runs": 'ward report trend --unit "$UNIT" --week "$WEEK" --zone "$ZONE" --mail-if-set',
                        "reads": ["gold.alert", "gold.early_warning_score", "gold.vital_sign_minute"],
                        "writes": [],
                        "then": [],
                    },
                },
            },
            "cohorts": {
                "assets": sorted(COHORTS.reads),
                "tasks": {
                    "build_models": {
                        "runs": "ward dbt build",
                        "reads": sorted(COHORTS.reads),
                        "writes": sorted(COHORTS.writes),
                        "then": [],
                    }
                },
            },
        },
    }


def test_a_command_that_fails_fails_the_run_and_its_words_are_in_the_log_and_somebody_is_told(home, told, tmp_path):
    data, environment = home
    url, got = told
    channels = tmp_path / "channels.yaml"
    channels.write_text(json.dumps({"channels": {"operations": {"urls": [url]}}}))

    ran = run_dag({**environment, "WARD_CHANNELS": str(channels)}, "cohorts", {})

    assert ran.returncode == 1, ran.stdout
    assert f"ward: silver.observation is not in {data.root} yet" in ran.stdout
    assert len(got) == 1
    assert got[0]["message"].startswith("cohorts: task build_models of run ")


def lineage_to(file):
    transport = {"TYPE": "file", "LOG_FILE_PATH": str(file), "APPEND": "true"}
    return {f"OPENLINEAGE__TRANSPORT__{name}": value for name, value in transport.items()}


def told_in(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_tables_are_checked_and_their_errors_held_against_the_budget_and_lineage_is_told(home, tmp_path):
    import deltalake

    data, environment = home
    for table in TABLES:
        write(data, table, [])
    write(data, OBSERVATION, [observation(1, 80.0), observation(2, 90.0)])
    write(data, DEVICE_MESSAGE, [{"topic": "vitals", "partition": 0, "offset": 1, "received_at": AT, "value": b"{}"}])

    quality = run_dag({**environment, **lineage_to(tmp_path / "lineage")}, "data_quality", {"live": False})

    assert quality.returncode == 0, quality.stdout
    events = told_in(tmp_path / "lineage")
    ended = {event["job"]["name"] for event in events if event["eventType"] == "COMPLETE"}
    assert {"data_quality", "data_quality.check_tables", "data_quality.hold_error_budget"} <= ended
    results = deltalake.DeltaTable(data.table(VALIDATION_RESULT)).to_pyarrow_table().to_pylist()
    assert {row["success"] for row in results} == {True}
    assert (data.root / "quality" / "docs" / "index.html").exists()
    assert {row["table_name"] for row in results} >= {"bronze.device_message", "silver.observation"}


def test_a_broken_rule_fails_the_run_and_is_on_the_site(home, tmp_path):
    _, environment = home
    data = DataDir(tmp_path / "ward")
    for table in TABLES:
        write(data, table, [])
    write(data, OBSERVATION, [observation(1, 900.0)])

    ran = run_dag({**environment, "WARD_DATA_DIR": str(data.root)}, "data_quality", {"live": False, "hours": 10**6})

    assert ran.returncode == 1, ran.stdout
    (page,) = (data.root / "quality" / "docs" / "validations" / "silver" / "observation").rglob("*.html")
    assert "out_of_range: the value is not plausible for this signal" in page.read_text()
    assert "1 rows break it" in page.read_text()


def test_each_unit_gets_its_report_and_it_is_sent(home, told, tmp_path):
    _, environment = home
    data = DataDir(tmp_path / "ward")
    monday = datetime(2026, 3, 2, tzinfo=UTC)
    for unit, patient in (("ICU", "mrn/1"), ("MED", "mrn/2")):
        append(data, VITAL_SIGN_MINUTE, minute(patient, monday, 80.0))
        append(data, OBSERVATION, {"patient_id": patient, "location_unit": unit, "observed_at": monday})
    url, got = told
    channels = tmp_path / "channels.yaml"
    channels.write_text(json.dumps({"channels": {"reports": {"urls": [url]}}}))

    ran = run_dag(
        {**environment, "WARD_DATA_DIR": str(data.root), "WARD_CHANNELS": str(channels)},
        "trend_reports",
        {"week": "2026-W10"},
    )

    assert ran.returncode == 0, ran.stdout
    names = [f"trend-{unit}-2026-W10" for unit in ("ICU", "MED")]
    assert sorted(file.name for file in data.reports.iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("csv", "pdf")
    )
    assert sorted(message["report"] for message in got) == names
    assert [file["filename"] for file in got[0]["attachments"]] == [
        f"{got[0]['report']}.{kind}" for kind in ("pdf", "csv")
    ]


def test_history_lands_bucket_by_bucket_and_is_then_modelled_maintained_backed_up_and_pinned(home, tmp_path):
    _, environment = home
    data = DataDir(tmp_path / "ward")
    folder = write_mimic_iv(tmp_path / "mimic", patients=4).folder
    # Of these two, each falls into a bucket of its own.
    subjects = ("10000003", "10000004")
    selection = Selection(subjects=frozenset(subjects))
    expected = sum(1 for _ in MIMIC_IV.events(folder, selection, Tally())) + 3 * len(subjects)

    asked = {"source": "mimic-iv", "path": str(folder), "buckets": 2, "subjects": ",".join(subjects)}
    environment = {**environment, "WARD_DATA_DIR": str(data.root)}
    ran = run_dag(environment, "mimic_backfill", asked)

    assert ran.returncode == 0, ran.stdout
    landed = query(data, "SELECT written FROM operation.backfill_run WHERE status = 'landed'").to_pylist()
    assert len(landed) == 2
    assert sum(row["written"] for row in landed) == expected
    counts = 'count(*) AS rows, count(DISTINCT (topic, "offset")) AS lines'
    assert query(data, f"SELECT {counts} FROM bronze.device_message").to_pylist() == [
        {"rows": expected, "lines": expected}
    ]

    for dag_id, conf in (
        ("cohorts", {}),
        ("table_maintenance", {}),
        ("stream_checkpoints", {"backup": True}),
        ("research_snapshot", {"name": "first"}),
    ):
        ran = run_dag({**environment, **lineage_to(tmp_path / f"{dag_id}.lineage")}, dag_id, conf)
        assert ran.returncode == 0, ran.stdout

    models, tasks = [], set()
    for event in told_in(tmp_path / "cohorts.lineage"):
        if event["job"]["namespace"] == "wardhouse":
            models.append(event["run"]["facets"]["parent"])
        else:
            tasks.add((event["job"]["name"], event["run"]["runId"]))
    assert models
    assert {(one["job"]["name"], one["run"]["runId"]) for one in models} <= tasks
    assert {one["job"]["name"] for one in models} == {"cohorts.build_models"}
    hours = query(data, "SELECT sum(count) AS values FROM mart.vital_sign_hourly").to_pylist()
    assert hours == query(data, "SELECT count(value) AS values FROM silver.observation").to_pylist()
    kept = query(data, "SELECT DISTINCT table_name FROM operation.table_maintenance").to_pylist()
    assert {"bronze.device_message", "silver.observation"} <= {row["table_name"] for row in kept}
    (saved,) = backup.names(data)
    assert backup.read(data, saved).versions.keys() >= {"bronze.device_message", "silver.observation"}
    assert "mart.icu_stay" in {pin.name for pin in snapshot.load(data, "first").tables}
    assert query(data, f"SELECT {counts} FROM bronze.device_message").to_pylist() == [
        {"rows": expected, "lines": expected}
    ]
