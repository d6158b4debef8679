"""Look at how far the streams have come each quarter of an hour, and back their checkpoints up each night.

A stream that lags fails the run. A backup pauses the lakehouse for as long as it copies; alerts go on. The data dir is
WARD_DATA_DIR of the workers' environment.
"""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Param, task  # noqa: TID253

from failure import tell
from lakehouse.pipeline import DEVICE_MESSAGE

BACKUP_AT = (3, 15)
"""Hour and minute (UTC): between the models of the night and maintenance, which a backup makes good."""

with DAG(
    dag_id="stream_checkpoints",
    description="Lag of the streams, and backups of their checkpoints",
    doc_md=__doc__,
    schedule="*/15 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": DEVICE_MESSAGE.owner, "on_failure_callback": tell},
    params={
        "max_lag": Param(100_000, type="integer", minimum=0, description="Records, versions or files not yet taken."),
        "max_age": Param("15m", type="string", description="How long a flow that lags may have committed nothing."),
        "backup": Param(False, type="boolean", description="Back up now, whatever the time."),
    },
    tags=[DEVICE_MESSAGE.owner],
):
    BashOperator(
        task_id="look_at_lag",
        bash_command='ward checkpoint list --max-lag "$MAX_LAG" --max-age "$MAX_AGE"',
        env={"MAX_LAG": "{{ params.max_lag }}", "MAX_AGE": "{{ params.max_age }}"},
        append_env=True,
    )

    @task.short_circuit
    def is_due(now: str, asked: str) -> bool:
        """Whether this run backs up."""
        at = datetime.fromisoformat(now).astimezone(UTC)
        return asked == "True" or (at.hour, at.minute) == BACKUP_AT

    is_due("{{ dag_run.run_after.isoformat() }}", "{{ params.backup }}") >> BashOperator(
        task_id="backup",
        bash_command='ward checkpoint backup "$NAME" --pause',
        env={"NAME": "{{ dag_run.run_after.strftime('%Y%m%dT%H%M%SZ') }}"},
        append_env=True,
    )
