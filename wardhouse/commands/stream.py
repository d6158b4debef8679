"""``ward stream``: the Spark applications, and their pause."""

from enum import StrEnum
from typing import Annotated

import typer

from lakehouse.datadir import DataDir
from wardhouse.durations import seconds
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir


class Application(StrEnum):
    """What to run: one application in its own JVM, or alerts and the lakehouse in one."""

    ALERTS = "alerts"
    LAKEHOUSE = "lakehouse"
    WAVEFORM = "waveform"
    BOTH = "both"


class Action(StrEnum):
    """What ``ward stream`` is asked: to run an application, or to pause or resume the one that runs."""

    ALERTS = Application.ALERTS
    LAKEHOUSE = Application.LAKEHOUSE
    WAVEFORM = Application.WAVEFORM
    BOTH = Application.BOTH
    PAUSE = "pause"
    RESUME = "resume"


CORES = {Application.ALERTS: 8, Application.LAKEHOUSE: 3, Application.WAVEFORM: 2, Application.BOTH: 11}
"""Task slots, not processors: real-time mode holds one for each partition of ``vitals`` as long as it runs; of the
lakehouse's, silver and gold take two at a time, and the third keeps bronze from waiting for them."""
BROKER_WAIT_S = 30.0
"""A broker may be on its way back when a stream is started again: patience costs less than one more restart."""
MEMORY = {
    Application.ALERTS: "1g",
    Application.LAKEHOUSE: "2g",
    Application.WAVEFORM: "1g",
    Application.BOTH: "3g",
}


def stream(
    action: Annotated[
        Action, typer.Argument(help="Which application to run; or pause or resume the lakehouse that runs.")
    ] = Action.BOTH,
    path: DataDirOption = DEFAULT_DATA_DIR,
    realtime: Annotated[bool, typer.Option(help="Real-time mode for alerts; otherwise micro-batches.")] = True,
    pack: Annotated[str, typer.Option(help="Rule pack: a name under alerting/rules, or a file.")] = "adult",
    memory: Annotated[str | None, typer.Option(help="Java heap, such as 2g; of the driver, with --master.")] = None,
    master: Annotated[
        str | None,
        typer.Option(
            envvar="WARD_SPARK_MASTER", help="Run on this Spark cluster: spark://HOST:PORT, k8s://https://HOST:PORT."
        ),
    ] = None,
    executors: Annotated[
        int | None, typer.Option(min=1, help="With --master: how many; WARD_SPARK_EXECUTORS, or 2.")
    ] = None,
    executor_cores: Annotated[
        int | None,
        typer.Option(min=1, help="With --master: task slots of each; enough for as many as without a cluster."),
    ] = None,
    timeout: Annotated[str, typer.Option(help="pause, resume: how long to wait until it is effective.")] = "5m",
    reason: Annotated[str, typer.Option(help="pause: why, for whoever looks at the status.")] = "asked for",
) -> None:
    """Run the streams until stopped: alerts (Kafka to Kafka, in milliseconds) and the lakehouse (Kafka to Delta).

    waveform runs beside them, where it is asked for: chunks of an ECG to tables, and rhythm by the minute.

    pause lets the flows that write tables end, each with its batch, and keeps them so, over restarts too, until
    resume. Alerts go on.
    """
    if action is Action.PAUSE:
        _pause(data_dir(path), reason, seconds(timeout))
    elif action is Action.RESUME:
        _resume(data_dir(path), seconds(timeout))
    else:
        asked = {"spark_master": master, "spark_executors": executors, "spark_executor_cores": executor_cores}
        given = {name: value for name, value in asked.items() if value is not None}
        settings = Settings().model_copy(update=given)
        _run(Application(action), settings, data_dir(path), realtime=realtime, pack=pack, memory=memory)


def _pause(data: DataDir, reason: str, timeout_s: float) -> None:
    from wardhouse.errors import failures
    from wardhouse.pausing import pause_stream
    from wardhouse.status import utc_now

    with failures():
        pause_stream(data, reason, utc_now(), timeout_s)
    typer.echo("the lakehouse is paused; alerts go on")


def _resume(data: DataDir, timeout_s: float) -> None:
    from wardhouse.errors import failures
    from wardhouse.pausing import resume_stream

    with failures():
        runs = resume_stream(data, timeout_s)
    typer.echo("the lakehouse goes on" if runs else "no stream runs; the next one starts without a pause")


def _run(
    application: Application, settings: Settings, data: DataDir, *, realtime: bool, pack: str, memory: str | None
) -> None:
    import logging

    from kafka.errors import KafkaError

    from alerting.compacted import TopicError
    from alerting.pack import PackError
    from lakehouse.cluster import ClusterError, require_shared_address
    from lakehouse.lineage import LineageError
    from lakehouse.pipeline import flows_of, topics_of
    from lakehouse.session import SessionError
    from streaming.application import StreamError, run
    from streaming.config import StreamConfig
    from wardhouse.broker import bootstrap_servers
    from wardhouse.cluster import cluster_of
    from wardhouse.component import component
    from wardhouse.ecg import require_packages
    from wardhouse.errors import failures
    from wardhouse.signals import stop_on_signals
    from wardhouse.topics import require

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    # A broker that is away is told once, by the error it ends in, and not ten times a second by the client.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    config = StreamConfig(
        data=data,
        bootstrap=bootstrap_servers(settings, data),
        topics=settings.topics(),
        jars=settings.jars,
        cores=CORES[application],
        memory=memory or MEMORY[application],
        pack=pack,
        realtime=realtime,
        cluster=cluster_of(settings, CORES[application]),
    )
    applications = ("alerts", "lakehouse") if application is Application.BOTH else (application.value,)
    flows = tuple(flow for each in applications for flow in flows_of(each))
    name = "stream" if application is Application.BOTH else f"stream-{application.value}"
    with (
        failures(StreamError, SessionError, ClusterError, PackError, KafkaError, TopicError, LineageError),
        component(data, name) as running,
        stop_on_signals() as stop,
    ):
        # Before the seconds that a Java machine takes to start.
        if application is Application.WAVEFORM:
            require_packages()
        if config.cluster is not None:
            require_shared_address(config.cluster.master, config.bootstrap)
        require(config.bootstrap, (config.topics[name] for name in topics_of(flows)), timeout_s=BROKER_WAIT_S)
        run(name, flows, config, stop, running.ready, running.paused)
