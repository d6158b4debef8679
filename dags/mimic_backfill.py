"""Land MIMIC in the lakehouse: one read parts the files by patient into buckets, and these land one after the other.

Started by hand, with the folder as a parameter: the dates of de-identified patients lie in the future, where Airflow's
own backfills refuse to go. A task that failed is cleared and runs again: what has landed is left out. The data dir is
WARD_DATA_DIR of the workers' environment; the folder is one that they can read.
"""

import json
from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator  # noqa: TID253 - a DAG file is Airflow's
from airflow.sdk import DAG, Asset, Param, task  # noqa: TID253

from failure import tell
from lakehouse.pipeline import BACKFILL, OBSERVATION

with DAG(
    dag_id="mimic_backfill",
    description="History from MIMIC-III or MIMIC-IV, in buckets of patients",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": BACKFILL.owner, "on_failure_callback": tell},
    params={
        "source": Param("mimic-iv", type="string", enum=["mimic-iii", "mimic-iv"], description="The layout."),
        "path": Param("", type="string", description="The data set's folder, as the workers see it."),
        "since": Param("", type="string", description="Only values from this instant on, RFC 3339; empty for all."),
        "until": Param("", type="string", description="Only values before this instant, RFC 3339; empty for all."),
        "subjects": Param("", type="string", description="Only these subject ids, by comma; empty for all."),
        "buckets": Param(8, type="integer", minimum=1, maximum=1000, description="In how many parts it lands."),
    },
    tags=[BACKFILL.owner],
) as dag:
    split = BashOperator(
        task_id="split",
        bash_command=(
            'ward backfill --source "$SOURCE" --path "$FOLDER" --split "$BUCKETS" --reason "$REASON"'
            ' ${SINCE:+--from "$SINCE"} ${UNTIL:+--to "$UNTIL"} ${SUBJECTS:+--subjects "$SUBJECTS"}'
        ),
        env={
            "SOURCE": "{{ params.source }}",
            "FOLDER": "{{ params.path }}",
            "BUCKETS": "{{ params.buckets }}",
            "SINCE": "{{ params.since }}",
            "UNTIL": "{{ params.until }}",
            "SUBJECTS": "{{ params.subjects }}",
            "REASON": "{{ run_id }}",
        },
        append_env=True,
        # The last line that the command prints.
        output_processor=json.loads,
    )

    @task
    def buckets(folders: list[str], source: str, reason: str) -> list[dict[str, str]]:
        """The environment of the task of each bucket."""
        return [{"BUCKET": folder, "SOURCE": source, "REASON": reason} for folder in folders]

    BashOperator.partial(
        task_id="land",
        bash_command='ward backfill --source "$SOURCE" --path "$BUCKET" --reason "$REASON"',
        append_env=True,
        # The tables have one writer, and a second one would wait for it.
        max_active_tis_per_dagrun=1,
        retries=1,
        outlets=[Asset(table) for table in OBSERVATION.writes],
        map_index_template="{{ task.env['BUCKET'].rpartition('/')[2] }}",
    ).expand(env=buckets(split.output, "{{ params.source }}", "{{ run_id }}"))
