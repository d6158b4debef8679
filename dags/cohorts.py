"""Build and test the dbt models: each night, and whenever a batch has changed a table they read.

A failing model or test fails the run; its log names it. The data dir is WARD_DATA_DIR of the workers' environment.
"""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Asset, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable  # noqa: TID253

from failure import tell
from lakehouse.pipeline import flow_named

FLOW = flow_named("cohorts")

with DAG(
    dag_id=FLOW.name,
    description="dbt models over silver and gold",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(
        # At night, when wards change least and the machine has most to spare.
        timetable=CronTriggerTimetable("30 2 * * *", timezone="UTC"),
        assets=AssetAny(*(Asset(table) for table in FLOW.reads)),
    ),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": FLOW.owner, "on_failure_callback": tell},
    tags=[FLOW.owner],
):
    BashOperator(
        task_id="build_models",
        bash_command="ward dbt build",
        # Whose part the models' runs are; nothing where nobody collects lineage.
        env={
            "OPENLINEAGE_PARENT_ID": "{{ macros.OpenLineageProviderPlugin.lineage_parent_id(task_instance)"
            " if macros.OpenLineageProviderPlugin is defined else '' }}"
        },
        inlets=[Asset(table) for table in FLOW.reads],
        outlets=[Asset(table) for table in FLOW.writes],
        append_env=True,
    )
