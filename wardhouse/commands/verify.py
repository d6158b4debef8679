"""``ward verify``: proof that nothing is lost or counted twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.datadir import DataDir
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from lakehouse.ledger import Ledger


def verify(
    path: DataDirOption = DEFAULT_DATA_DIR,
    report: Annotated[Path | None, typer.Option(help="Write the ledger to this file as JSON.")] = None,
    memory: Annotated[str, typer.Option(help="Java heap.")] = "2g",
) -> None:
    """Prove over the whole data dir that nothing is lost or counted twice; exit code 1 where something is.

    Starts the embedded broker for as long as it takes where it does not run.
    """
    import json

    from lakehouse.cluster import ClusterError
    from lakehouse.session import SessionError
    from wardhouse.errors import Failure, failures

    settings, data = Settings(), data_dir(path)
    with failures(SessionError, ClusterError):
        if not data.table_root.exists():
            raise Failure(f"nothing to verify: {data.root} has no tables. `ward up --data-dir {data.root}` makes them")
        with broker_at(settings, data) as bootstrap:
            ledger = prove(settings, data, bootstrap, memory)
    keep(ledger, data)
    show(ledger)
    if report:
        report.write_text(json.dumps(ledger.as_dict(), indent=2) + "\n", encoding="utf-8")
    if not ledger.holds:
        raise typer.Exit(1)


@contextmanager
def broker_at(settings: Settings, data: DataDir) -> Iterator[str]:
    """Bootstrap servers of the broker that holds this data dir's topics, started here where none runs."""
    from wardhouse.broker import Broker, bootstrap_servers
    from wardhouse.component import component, read_state

    if settings.kafka_bootstrap_servers or read_state(data, "broker"):
        yield bootstrap_servers(settings, data)
        return
    with component(data, "broker") as running, Broker(data, settings.jars, port=0) as broker:
        running.ready(broker.address)
        yield broker.address


def prove(settings: Settings, data: DataDir, bootstrap: str, memory: str) -> "Ledger":
    """The ledger of a data dir, in a Spark session of its own."""
    from lakehouse.cluster import require, require_shared_address
    from lakehouse.session import build_session
    from streaming.config import StreamConfig
    from streaming.verify import broker_offsets
    from streaming.verify import verify as verify_ledger
    from wardhouse.cluster import SLOTS, cluster_of

    config = StreamConfig(data, bootstrap, settings.topics(), settings.jars, SLOTS, memory)
    cluster = cluster_of(settings, SLOTS)
    spark = build_session("wardhouse-verify", config.jars, cores=SLOTS, memory=memory, cluster=cluster, lake=data.lake)
    try:
        if cluster is not None:
            require_shared_address(cluster.master, bootstrap)
            require(spark, cluster, data)
        return verify_ledger(spark, config, broker_offsets(config))
    finally:
        spark.stop()


def keep(ledger: "Ledger", data: DataDir) -> None:
    """Note on the data dir what was proven, for whoever watches over it."""
    from datetime import UTC, datetime

    from lakehouse import progress
    from lakehouse.ledger import Fault

    faults = {fault.value: ledger.count(fault) for fault in Fault}
    progress.append(data.progress(progress.LEDGER), {"at": datetime.now(UTC).isoformat(), "faults": faults})


def show(ledger: "Ledger") -> None:
    """Print the ledger: a line a check, then the totals."""
    for check in ledger.checks:
        verdict = "ok  " if check.holds else "FAIL"
        found = "" if check.holds else f": {check.count} {check.fault.value}"
        typer.echo(f"{verdict} {check.name}{found}")
    for remark in ledger.remarks:
        typer.echo(f"note {remark}")
    typer.echo(", ".join(f"{name} {count:,}" for name, count in ledger.totals.items()))
