"""Pin every table for research each month, and prove the snapshot by deriving it anew.

A snapshot outlasts maintenance of the tables, and has a citation. The data dir is WARD_DATA_DIR of the workers'
environment.
"""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Param  # noqa: TID253

from failure import tell
from lakehouse.pipeline import COHORTS

with DAG(
    dag_id="research_snapshot",
    description="Tables pinned for research, with a proof",
    doc_md=__doc__,
    # After the models of the night.
    schedule="0 5 1 * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": COHORTS.owner, "on_failure_callback": tell},
    params={
        "name": Param("", type="string", description="Its name; empty for the run's month, or its minute if by hand.")
    },
    tags=[COHORTS.owner],
):
    # The month's own run may have been before: one by hand has a name of its own, and the same when it is cleared.
    of_run = "dag_run.run_after.strftime('%Y-%m-%d-%H%M' if dag_run.run_type == 'manual' else '%Y-%m')"
    named = {"NAME": f"{{{{ params.name or {of_run} }}}}"}
    create = BashOperator(task_id="create", bash_command='ward snapshot create "$NAME"', env=named, append_env=True)
    create >> BashOperator(
        task_id="verify", bash_command='ward snapshot verify "$NAME" --rebuild', env=named, append_env=True
    )
