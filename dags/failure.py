"""Tell people of a task that failed, by the channels that alerts use.

The channel is ``operations`` of the channels file, WARD_CHANNELS of the workers' environment. Without a file nobody is
told outside Airflow.
"""

import logging
import os
import subprocess
from typing import Any

log = logging.getLogger(__name__)


def tell(context: Any) -> None:
    """Say which task of which run has failed. What cannot be told stands in the task's log."""
    failed = context["task_instance"]
    text = f"{failed.dag_id}: task {failed.task_id} of run {failed.run_id} has failed; its log in Airflow says why"
    if not os.environ.get("WARD_CHANNELS"):
        log.warning("nobody is told outside Airflow, WARD_CHANNELS is not set: %s", text)
        return
    told = subprocess.run(["ward", "notify", "--say", text], capture_output=True, text=True, check=False)
    if told.returncode:
        log.error("nobody was told: %s", told.stderr.strip())
