"""Write the trend report of each care unit on Monday morning, and send it where a channel for reports is configured.

The week is the last that is over. The data dir is WARD_DATA_DIR of the workers' environment, the reports lie in
`reports` there; they are sent by the channel `reports` of the channels file, WARD_CHANNELS.
"""

import json
from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Asset, Param, task  # noqa: TID253

from failure import tell
from lakehouse.tables import ALERT, EARLY_WARNING_SCORE, VITAL_SIGN_MINUTE

with DAG(
    dag_id="trend_reports",
    description="A weekly report for each care unit, as PDF and CSV",
    doc_md=__doc__,
    # After maintenance, before people come.
    schedule="0 6 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "data-engineering", "on_failure_callback": tell},
    params={
        "unit": Param("", type="string", description="Only this care unit; empty for each that is known."),
        "week": Param("", type="string", description="ISO week, such as 2026-W47; empty for the last before the run."),
        "zone": Param("UTC", type="string", description="Time zone of days and hours, such as Europe/London."),
    },
    tags=["data-engineering"],
):
    asked = {
        # A run that is cleared later makes the same week again.
        "WEEK": "{{ params.week or (dag_run.run_after - macros.timedelta(days=7)).strftime('%G-W%V') }}",
        "ZONE": "{{ params.zone }}",
    }
    list_units = BashOperator(
        task_id="list_units",
        bash_command='ward report units --json --week "$WEEK" --zone "$ZONE"',
        env=asked,
        append_env=True,
        # The last line that the command prints.
        output_processor=json.loads,
    )

    @task
    def units(known: list[str], unit: str, week: str, zone: str) -> list[dict[str, str]]:
        """The environment of the task of each unit."""
        return [{"UNIT": name, "WEEK": week, "ZONE": zone} for name in ([unit] if unit else known)]

    BashOperator.partial(
        task_id="write_report",
        bash_command='ward report trend --unit "$UNIT" --week "$WEEK" --zone "$ZONE" --mail-if-set',
        append_env=True,
        # Each reads the whole week: side by side they would only wait for the same disk.
        max_active_tis_per_dagrun=1,
        inlets=[Asset(table.full_name) for table in (VITAL_SIGN_MINUTE, EARLY_WARNING_SCORE, ALERT)],
        map_index_template="{{ task.env['UNIT'] }}",
    ).expand(env=units(list_units.output, "{{ params.unit }}", asked["WEEK"], asked["ZONE"]))
