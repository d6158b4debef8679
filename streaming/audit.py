"""What the simulator says it sent against what the lakehouse has: an account that the pipeline did not keep itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lakehouse.ledger import Check, Fault, missing
from lakehouse.tables import DEAD_LETTER, OBSERVATION, OBSERVATION_QUARANTINE
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COORDINATES = ("topic", "partition", "offset")
_LINE = (
    "type STRING, topic STRING, `partition` INT, `offset` BIGINT, expect STRING, observations INT,"
    " quarantined MAP<STRING, INT>"
)


def truth(spark: "SparkSession", config: StreamConfig) -> "DataFrame | None":
    """The acknowledged records of every simulator run on this data dir; None where there was none."""
    files = [str(path) for path in sorted(config.data.truth.glob("*.jsonl"))]
    if not files:
        return None
    lines = spark.read.schema(_LINE).json(files)
    site = " ".join(f"WHEN '{declared}' THEN '{name}'" for declared, name in config.topics.items())
    sent = lines.where("type IN ('message', 'resource') AND `offset` IS NOT NULL")
    return sent.selectExpr(
        f"CASE topic {site} END AS topic", "`partition`", "`offset`", "expect", "observations", "quarantined"
    )


def audit(
    sent: "DataFrame", claimed: "DataFrame", parsed: "DataFrame", tables: Mapping[str, "DataFrame"]
) -> list[Check]:
    """Each acknowledged record has become what the simulator said it must.

    ``claimed`` are the bronze records, ``parsed`` the coordinates of those that silver has committed.
    """
    from pyspark.sql import functions as F  # noqa: N812

    key = list(COORDINATES)
    done = sent.join(parsed.select(*key).distinct(), key, "left_semi").persist()
    wanted_dead = done.where("expect LIKE 'dead_letter:%'").select(
        *key, F.substring_index("expect", ":", -1).alias("reason")
    )
    found_dead = tables[DEAD_LETTER.full_name].join(done, key, "left_semi").select(*key, "reason")
    dead = wanted_dead.exceptAll(found_dead).count() + found_dead.exceptAll(wanted_dead).count()
    silver, quarantine = tables[OBSERVATION.full_name], tables[OBSERVATION_QUARANTINE.full_name]
    rows = silver.select(*key).union(quarantine.select(*key)).groupBy(*key).agg(F.count("*").alias("rows"))
    each = quarantine.select(*key, F.explode("failed_constraints").alias("reason")).groupBy(*key, "reason").count()
    entry = F.struct("reason", F.col("count").cast("int").alias("count"))
    reasons = each.groupBy(*key).agg(F.array_sort(F.collect_list(entry)).alias("found"))
    accounts = done.where("expect = 'parsed'").join(rows, key, "left").join(reasons, key, "left")
    wrong = accounts.where(
        "coalesce(rows, 0) <> observations"
        " OR to_json(coalesce(found, array())) <> to_json(array_sort(transform(map_entries("
        "coalesce(quarantined, map())), e -> named_struct('reason', e.key, 'count', e.value))))"
    ).count()
    lost = missing(sent, claimed, COORDINATES)
    done.unpersist()
    return [
        Check("truth: every record the simulator sent is in bronze", Fault.LOST, lost, "by its coordinates"),
        Check("truth: every dead letter, and its reason", Fault.UNEXPLAINED, dead, "both ways"),
        Check("truth: every message's observations and quarantine", Fault.UNEXPLAINED, wrong, "by message"),
    ]
