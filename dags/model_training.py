"""Train a version of the model of risk each week on what the cohorts have, and try the gate where that is asked for.

A version that the gate refuses stays out of service, and its reasons are in the log; the run fails, so that somebody
looks. The data dir is WARD_DATA_DIR of the workers' environment.
"""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Param  # noqa: TID253

from failure import tell
from lakehouse.pipeline import RISK_SCORE

with DAG(
    dag_id="model_training",
    description="A version of the model of risk",
    doc_md=__doc__,
    # After the models of the night, of dbt.
    schedule="0 6 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": RISK_SCORE.owner, "on_failure_callback": tell},
    params={
        "snapshot": Param("", type="string", description="Train on this snapshot; empty for what there is now."),
        "promote": Param(False, type="boolean", description="Put it in service, if the gate lets it."),
    },
    tags=[RISK_SCORE.owner],
):
    BashOperator(
        task_id="train",
        bash_command='ward model train ${SNAPSHOT:+--snapshot "$SNAPSHOT"} ${PROMOTE:+--promote}',
        env={"SNAPSHOT": "{{ params.snapshot }}", "PROMOTE": "{{ 'yes' if params.promote else '' }}"},
        append_env=True,
    )
