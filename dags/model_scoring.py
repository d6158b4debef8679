"""Score history by the model in service, as it was known then: by hand, for a span of time; what is there stays.

Beside the ward it is `ward risk` that scores, minute by minute. The data dir is WARD_DATA_DIR of the workers'
environment.
"""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Asset, Param  # noqa: TID253

from failure import tell
from lakehouse.pipeline import RISK_SCORE

with DAG(
    dag_id="model_scoring",
    description="Risks of history, into gold.risk_score",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": RISK_SCORE.owner, "on_failure_callback": tell},
    params={
        "since": Param("2026-01-01", type="string", description="From this instant on (UTC)."),
        "until": Param("2026-01-02", type="string", description="Up to this instant."),
        "every": Param("1h", type="string", description="At each full step in which something was recorded."),
        "version": Param("", type="string", description="A version; empty for the one in service."),
    },
    tags=[RISK_SCORE.owner],
):
    BashOperator(
        task_id="score",
        bash_command='ward model score --since "$SINCE" --until "$UNTIL" --every "$EVERY"'
        ' ${VERSION:+--version "$VERSION"}',
        env={
            "SINCE": "{{ params.since }}",
            "UNTIL": "{{ params.until }}",
            "EVERY": "{{ params.every }}",
            "VERSION": "{{ params.version }}",
        },
        outlets=[Asset("gold.risk_score")],
        append_env=True,
    )
