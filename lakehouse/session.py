"""The one place that makes a SparkSession: Delta, Kafka and the settings that suit a few cores."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import storage
from lakehouse.cluster import LOOPBACK, Cluster, settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.storage import Place


class SessionError(RuntimeError):
    """Spark cannot start; the text says what is missing."""


CONF = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # A path without a scheme is of this machine, whatever a site's HADOOP_CONF_DIR makes the default.
    "spark.hadoop.fs.defaultFS": "file:///",
    # A shuffle or a Delta snapshot is a few thousand rows: the defaults (200, 50) would only schedule empty tasks.
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    # Replanning after each stage makes a job of every stage: with two partitions it finds nothing to improve and costs
    # a sixth of a batch. Joins that need it say which side is small.
    "spark.sql.adaptive.enabled": "false",
    # The flows of one application have some five hundred generated classes. With Spark's hundred, each batch compiles
    # all of them again, in Janino and then in Java, which costs as much as the batch itself.
    "spark.sql.codegen.cache.maxEntries": "4000",
    # Spark's own kind of instants has no statistics in Parquet: readers would go through every group of rows.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Every broadcast of a small table, sort and hash table takes at least a page. Spark would choose 16 to 64 MB for
    # one, and a batch with dozens of joins then fills a heap of gigabytes with zeros.
    "spark.buffer.pageSize": "1m",
    # VACUUM lists folders in as many tasks as this: ten thousand by default, which take minutes for two files.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
    # Small files are mended by table maintenance, not in the path of the stream.
    "spark.databricks.delta.autoCompact.enabled": "false",
    "spark.databricks.delta.optimizeWrite.enabled": "false",
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    # Enough progress lines to look back on an hour.
    "spark.sql.streaming.numRecentProgressUpdates": "400",
    "spark.ui.enabled": "false",
    # Who says what a query reads does not say with which password.
    "spark.sql.redaction.options.regex": "(?i)url|password|jaas",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.warehouse.dir": "/nonexistent/tables-are-kept-by-path",
}


def build_session(
    app_name: str,
    jars: Path,
    *,
    cores: int = 2,
    memory: str = "1g",
    java_options: str = "",
    conf: Mapping[str, str] | None = None,
    cluster: Cluster | None = None,
    lake: "Place | None" = None,
) -> "SparkSession":
    """A session with ``memory`` heap: on a cluster, or local with ``cores`` task slots.

    ``lake`` is where tables are that it reads and writes; None for a session that has to do with none. Raises
    SessionError when the jars are missing, ClusterError when there is no way to the cluster.
    """
    folders = _folders(jars.resolve(), lake)
    from pyspark.sql import SparkSession

    # Python workers run in this environment, not in whatever python3 is first on PATH. A session that is made here and
    # not by spark-submit takes it from the environment alone.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name).master(cluster.master if cluster else f"local[{cores}]")
    own = {
        "spark.driver.memory": memory,
        "spark.driver.extraClassPath": ":".join(f"{folder}/*" for folder in folders),
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_log4j()} {java_options}".strip(),
        "spark.driver.bindAddress": LOOPBACK,
        "spark.driver.host": LOOPBACK,
    }
    asked = settings(cluster, folders) if cluster else {}
    kept = storage.spark_conf(lake) if lake is not None else {}
    for name, value in {**CONF, **own, **asked, **kept, **(conf or {})}.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    return session


def _folders(jars: Path, lake: "Place | None") -> list[Path]:
    """Folders of the Java libraries that a session needs. Raises SessionError where one is missing."""
    needed = {"spark": ("delta-spark_*.jar", "Delta Lake")}
    if lake is not None and (jars_of_store := storage.jars(lake)):
        needed["storage"] = jars_of_store
    for folder, (file, of) in needed.items():
        if not any((jars / folder).glob(file)):
            raise SessionError(
                f"no {of} jars in {jars / folder}: run `make setup`, or set WARD_JARS to the folder above it"
            )
    return [jars / folder for folder in needed]


def _log4j() -> Path:
    return Path(__file__).with_name("log4j2.properties")
