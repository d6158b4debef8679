"""The Spark cluster that the environment names, for the sessions of commands."""

from lakehouse.cluster import Cluster, is_local
from wardhouse.settings import Settings

SLOTS = 2
"""Of a session that works for a while and ends, such as maintenance."""


def cluster_of(settings: Settings, slots: int) -> Cluster | None:
    """The cluster to run on, with at least so many task slots unless the site says otherwise; None for this machine."""
    if settings.spark_master is None or is_local(settings.spark_master):
        return None
    return Cluster(
        settings.spark_master,
        settings.spark_executors,
        settings.spark_executor_cores or -(-slots // settings.spark_executors),
        settings.spark_executor_memory,
        settings.spark_driver_host,
        settings.spark_executor_jars,
    )
