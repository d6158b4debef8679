"""Look each day whether what the model in service is told, and what it says, is still what it was trained on.

Where much has moved the run fails, which is told by the channel `operations`; a version of what there is now is trained
where that is asked for, and put in service by a person. The data dir is WARD_DATA_DIR of the workers' environment.
"""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Param  # noqa: TID253

from failure import tell
from lakehouse.pipeline import RISK_SCORE

with DAG(
    dag_id="model_drift",
    description="Inputs and risks of the model in service, held against its training",
    doc_md=__doc__,
    schedule="0 7 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": RISK_SCORE.owner, "on_failure_callback": tell},
    params={
        "days": Param(7, type="integer", minimum=1, description="Look at so many days."),
        "retrain": Param(False, type="boolean", description="Where much has moved, train another version."),
    },
    tags=[RISK_SCORE.owner],
):
    BashOperator(
        task_id="look_at_drift",
        bash_command='ward model drift --days "$DAYS" ${RETRAIN:+--retrain}',
        env={"DAYS": "{{ params.days }}", "RETRAIN": "{{ 'yes' if params.retrain else '' }}"},
        append_env=True,
    )
