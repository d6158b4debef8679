"""Delete what is beyond its retention, join and cluster small files, and vacuum old ones: each night.

The lakehouse stands still meanwhile, since its tables have one writer; alerts go on. The data dir is WARD_DATA_DIR of
the workers' environment.
"""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Asset, Param  # noqa: TID253

from failure import tell
from lakehouse.pipeline import MAINTENANCE

with DAG(
    dag_id=MAINTENANCE.name,
    description="Retention, small files and old files of every table",
    doc_md=__doc__,
    # After the models of the night have read the tables.
    schedule="30 4 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": MAINTENANCE.owner, "on_failure_callback": tell},
    params={"keep": Param("30d", type="string", description="How long files stay that only older versions need.")},
    tags=[MAINTENANCE.owner],
):
    BashOperator(
        task_id="maintain_tables",
        bash_command='ward maintain --pause --keep "$KEEP"',
        env={"KEEP": "{{ params.keep }}"},
        append_env=True,
        outlets=[Asset(table) for table in MAINTENANCE.writes],
    )
