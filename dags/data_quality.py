"""Hold every table against what it promises, each hour and whenever a batch has changed a table.

A broken rule fails the run; the results are rows of quality.validation_result. The data dir is WARD_DATA_DIR of the
workers' environment.
"""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Asset, AssetAny, AssetOrTimeSchedule, DeltaTriggerTimetable, Param  # noqa: TID253

from failure import tell
from lakehouse.pipeline import flow_named

FLOW = flow_named("data_quality")

with DAG(
    dag_id=FLOW.name,
    description="Great Expectations over every table",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(
        timetable=DeltaTriggerTimetable(FLOW.trigger),
        assets=AssetAny(*(Asset(table) for table in FLOW.reads)),
    ),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": FLOW.owner, "on_failure_callback": tell},
    params={
        "live": Param(
            True, type="boolean", description="The stream is meant to run: an old or thin intake is a fault."
        ),
        "budget": Param("5%", type="string", description="The share of a device's values that may be in quarantine."),
        "hours": Param(26, type="integer", minimum=1, description="Rows this recent are checked."),
    },
    tags=[FLOW.owner],
):
    check_tables = BashOperator(
        task_id="check_tables",
        # Values come by the environment, never spliced into the command: a run id is free text.
        bash_command='ward quality run "$LIVE" --hours "$HOURS" --run-id "$RUN_ID"',
        env={
            "LIVE": "{{ '--live' if params.live else '--no-live' }}",
            "HOURS": "{{ params.hours }}",
            "RUN_ID": "{{ run_id }}",
        },
        append_env=True,
        outlets=[Asset(table) for table in FLOW.writes],
    )
    # A teardown: it runs after a broken rule too, which is what the site is for, and does not hide it. Airflow goes by
    # the last tasks of a run, and a task that succeeds behind one that failed would make the run a success.
    build_docs = BashOperator(task_id="build_docs", bash_command="ward quality docs", append_env=True)
    check_tables >> build_docs.as_teardown()
    # By itself: a broken rule is no reason not to look at the devices.
    BashOperator(
        task_id="hold_error_budget",
        bash_command='ward quarantine budget --limit "$BUDGET" --days 1',
        env={"BUDGET": "{{ params.budget }}"},
        append_env=True,
    )
