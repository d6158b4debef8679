"""A Spark cluster to run a session on instead of threads of this process: what is asked of it, and whether it gives.

All that is ours runs on executors as Java: flows are SQL, and what a batch does in Python it does in the driver. So an
executor needs Java, our jars and the data dir, and no Python.
"""

import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from lakehouse import storage
from lakehouse.datadir import DataDir

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOOPBACK = "127.0.0.1"
EXECUTORS_WAIT_S = 60.0
"""Executors of a standalone cluster register within some seconds; pods may have to wait for a node to pull an image."""
ONE_TASK = "one to run any task"
_POLL_S = 0.2
_MARK = """concat_ws(' ',
  java_method('java.net.InetAddress', 'getLocalHost'),
  java_method('java.lang.ProcessHandle', 'current'),
  java_method('java.lang.Thread', 'sleep', 1000L)) AS value"""
"""Who wrote it. Each task holds its slot until all have one, so that no executor is left out."""


class ClusterError(RuntimeError):
    """The cluster cannot run what it is asked to; the text says what it lacks, and what to do."""


@dataclass(frozen=True)
class Cluster:
    """What a session asks of a cluster. Anything else Spark is told by spark-defaults.conf in SPARK_CONF_DIR."""

    master: str
    """``spark://host:port[,host:port]`` or ``k8s://https://host:port``."""
    executors: int
    executor_cores: int
    """Task slots of one executor; a slot need not be a processor."""
    executor_memory: str = "1g"
    driver_host: str | None = None
    """Where executors reach this process; None for the address that this machine has towards the master."""
    executor_jars: str | None = None
    """Folder with our jars that each executor has at this path; None to have the driver send them to each."""

    @property
    def slots(self) -> int:
        """Tasks that run at once when the cluster gives all that is asked of it."""
        return self.executors * self.executor_cores


def is_local(master: str) -> bool:
    """Whether this is the name of a session's own threads."""
    return master.startswith("local")


def settings(cluster: Cluster, jars: Sequence[Path]) -> dict[str, str]:
    """Spark's settings for a session on this cluster; ``jars`` are the folders of the driver's own."""
    host = cluster.driver_host or address_towards(cluster.master)
    asked = {
        "spark.driver.host": host,
        # Behind a name, such as a pod's service, this process can only listen on all of its own addresses.
        "spark.driver.bindAddress": LOOPBACK if host == LOOPBACK else "0.0.0.0",  # noqa: S104 - behind the site's firewall
        "spark.executor.instances": str(cluster.executors),
        "spark.executor.cores": str(cluster.executor_cores),
        # Of a standalone cluster an application would take every core, and leave none to the other one.
        "spark.cores.max": str(cluster.slots),
        "spark.executor.memory": cluster.executor_memory,
        # A real-time task never ends, and a batch every ten seconds leaves nobody idle: there is nothing to scale by,
        # and an executor that is taken away takes the rows with it that a batch holds.
        "spark.dynamicAllocation.enabled": "false",
        # A stage of small batches has as many tasks as there are slots, and not the two of a small machine.
        "spark.sql.shuffle.partitions": str(cluster.slots),
        "spark.databricks.delta.snapshotPartitions": str(cluster.slots),
    }
    if cluster.executor_jars is not None:
        return {**asked, "spark.executor.extraClassPath": f"{cluster.executor_jars}/*"}
    return {**asked, "spark.jars": ",".join(str(jar) for folder in jars for jar in sorted(folder.glob("*.jar")))}


def address_towards(master: str) -> str:
    """This machine's address as the master's machine sees it. Raises ClusterError where that is no known name."""
    url = urlsplit(master.removeprefix("k8s://").split(",")[0])
    if url.hostname is None:
        raise ClusterError(
            f"{master} names no Spark master: give spark://HOST:PORT, k8s://https://HOST:PORT or local[N]"
        )
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(url.hostname, url.port or 443, type=socket.SOCK_DGRAM)[0]
        # Nothing is sent: a datagram's socket only looks up the way.
        with socket.socket(family, kind, protocol) as way:
            way.connect(where)
            return str(way.getsockname()[0])
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no way to the Spark master {master} ({error}): correct --master, or name this machine as executors reach"
            " it by WARD_SPARK_DRIVER_HOST"
        ) from error


def require_shared_address(master: str, bootstrap: str) -> None:
    """Raise ClusterError where brokers are given by a loopback address to executors on other machines."""
    alone = address_towards(master) == LOOPBACK
    if not alone and all(_is_loopback(server.rpartition(":")[0]) for server in bootstrap.split(",")):
        raise ClusterError(
            f"executors of {master} cannot reach the broker at {bootstrap}, an address of this machine alone: name one"
            " that they reach with KAFKA_BOOTSTRAP_SERVERS"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def slots(spark: "SparkSession", cluster: Cluster) -> int:
    """Task slots of the executors that are there now."""
    return len(executors(spark)) * cluster.executor_cores


def executors(spark: "SparkSession") -> frozenset[str]:
    """Addresses of the executors that are there now."""
    context = spark.sparkContext._jsc.sc()
    there = [f"{one.host()}:{one.port()}" for one in context.statusTracker().getExecutorInfos()]
    driver = context.env().blockManager().blockManagerId()
    return frozenset(there) - {f"{driver.host()}:{driver.port()}"}


def require(spark: "SparkSession", cluster: Cluster, data: DataDir, least: int = 1, why: str = ONE_TASK) -> None:
    """Wait until the cluster can do the session's work on the data dir. Raises ClusterError."""
    require_slots(spark, cluster, least, why)
    if storage.is_local(data.lake):
        require_shared(spark, cluster, data.run)


def require_slots(
    spark: "SparkSession", cluster: Cluster, least: int, why: str, within_s: float = EXECUTORS_WAIT_S
) -> None:
    """Wait for all executors, and go on with ``least`` slots if no more come. Raises ClusterError with fewer."""
    deadline = time.monotonic() + within_s
    while (there := slots(spark, cluster)) < cluster.slots and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    if there < least:
        raise ClusterError(too_few(cluster, there, least, why))


def too_few(cluster: Cluster, there: int, least: int, why: str) -> str:
    """What to say of a cluster with fewer slots than needed."""
    asked = f"{cluster.executors} executors of {cluster.executor_cores} cores and {cluster.executor_memory}"
    return (
        f"{cluster.master} gives {there} task slots, and {least} are needed: {why}. Asked for were {asked}: free or add"
        " workers with as many cores and as much memory, or ask for others with --executors, --executor-cores and"
        " WARD_SPARK_EXECUTOR_MEMORY"
    )


class Absence:
    """Notices when a session that runs has had no executor for a while, and its tasks wait."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._since: float | None = None
        self._told = False

    def look(self, there: int, now: float) -> str | None:
        """What to say, once, with so many executors ``there`` at ``now`` (seconds of any clock)."""
        if there:
            self._since, self._told = None, False
            return None
        self._since = now if self._since is None else self._since
        if self._told or now - self._since < EXECUTORS_WAIT_S:
            return None
        self._told = True
        return too_few(self._cluster, 0, 1, ONE_TASK)


def require_shared(spark: "SparkSession", cluster: Cluster, folder: Path) -> None:
    """Have every executor write and read a file below ``folder``, on the data dir. Raises ClusterError.

    A folder of the same name on a worker's own disk would take files that nobody else ever sees.
    """
    there = slots(spark, cluster)
    marks = folder / f"cluster-{uuid4().hex}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        spark.range(0, there, 1, there).selectExpr(_MARK).write.text(f"file://{marks}")
        written = sum(len(part.read_text(encoding="utf-8").splitlines()) for part in marks.glob("part-*"))
        read = spark.read.text(f"file://{marks}").count() if written else 0
    except Exception as error:
        raise ClusterError(_not_shared(cluster, folder, str(error).strip().splitlines()[0])) from error
    finally:
        shutil.rmtree(marks, ignore_errors=True)
    if (written, read) != (there, there):
        raise ClusterError(_not_shared(cluster, folder, f"of {there} marks {written} are seen here, {read} there"))


def _not_shared(cluster: Cluster, folder: Path, seen: str) -> str:
    return (
        f"not every executor of {cluster.master} shares the folder {folder}: {seen}. Mount one file system at this path"
        " on this machine and on every worker, writable for the user that executors run as"
    )
