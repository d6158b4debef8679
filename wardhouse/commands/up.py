"""``ward up``: the live pipeline on this machine, in one command."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from wardhouse.commands.notify import ChannelsOption
from wardhouse.durations import seconds
from wardhouse.settings import (
    DASHBOARD_PORT,
    DEFAULT_BROKER_PORT,
    DEFAULT_DATA_DIR,
    GATEWAY_PORT,
    MLLP_PORT,
    DataDirOption,
    Settings,
    data_dir,
)


def summary_line(report: Mapping[str, Any]) -> str:
    """What a person wants to know of a run, from its report."""
    counts = ("messages_sent", "bronze_rows", "observations", "quarantined", "dead_letters", "evaluations")
    shown = [f"{name.replace('_', ' ')} {report[name]:,}" for name in counts]
    proven = [f"{name} {report[name]:,}" for name in ("lost", "duplicated") if report[name] is not None]
    return ", ".join([*shown, f"alerts opened {report['alerts_opened']:,}", *proven])


def _port(of: str, usual: int) -> Any:
    return typer.Option(help=f"{of}. Left out: {usual}, or a free one where that is taken.", min=0, max=65535)


def up(
    path: DataDirOption = DEFAULT_DATA_DIR,
    duration: Annotated[
        str | None, typer.Option(help="End after this time (60s, 2m, 1h), when all that was sent has landed.")
    ] = None,
    patients: Annotated[int | None, typer.Option(min=1, help="Simulated patients; 100 if nothing is said.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Messages a second of all patients together; one a patient if not given.")
    ] = None,
    faults: Annotated[
        str | None, typer.Option(help="Faults that the simulator mixes in: none, default, heavy.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write counts, latencies and use of the machine as JSON.")] = None,
    verify: Annotated[bool, typer.Option(help="With --report: prove that nothing is lost or doubled.")] = True,
    simulator: Annotated[bool, typer.Option(help="Send simulated patients.")] = True,
    realtime: Annotated[bool, typer.Option(help="Real-time mode for alerts; otherwise micro-batches.")] = True,
    one_jvm: Annotated[bool, typer.Option("--one-jvm", help="Both Spark applications in one process.")] = False,
    gateway: Annotated[bool, typer.Option(help="Also the gateway (REST, FHIR, HL7 v2).")] = False,
    gateway_port: Annotated[int | None, _port("Port of the gateway", GATEWAY_PORT)] = None,
    mllp_port: Annotated[int | None, _port("Port of the gateway for HL7 v2; 0 takes no HL7 v2", MLLP_PORT)] = None,
    dashboard: Annotated[bool, typer.Option(help="Also the dashboard.")] = False,
    dashboard_port: Annotated[int | None, _port("Port of the dashboard", DASHBOARD_PORT)] = None,
    airflow: Annotated[bool, typer.Option(help="Also Airflow.")] = False,
    risk: Annotated[bool, typer.Option(help="Also risks by the model in service.")] = False,
    waveform: Annotated[bool, typer.Option(help="Also tables of waveforms, and rhythm by the minute.")] = False,
    channels: ChannelsOption = None,
    sinks: Annotated[
        Path | None, typer.Option(envvar="WARD_SINKS", help="Also databases, by this sinks file (ward sink).")
    ] = None,
    broker_port: Annotated[int, typer.Option(help="Port of the broker; 0 takes a free one.")] = DEFAULT_BROKER_PORT,
) -> None:
    """Run everything on this machine, until Ctrl-C or the end of --duration; a second Ctrl-C ends it at once."""
    import orjson

    from alerting import channels as channels_file
    from lakehouse.sinks import declaration as sinks_file
    from wardhouse.broker import free_port
    from wardhouse.errors import Failure, failures
    from wardhouse.signals import stop_on_signals
    from wardhouse.terminal import view
    from wardhouse.up import Options, run

    settings = Settings()
    file = channels or settings.channels
    options = Options(
        duration_s=seconds(duration) if duration else None,
        patients=patients,
        rate=rate,
        faults=faults,
        simulator=simulator,
        realtime=realtime,
        one_jvm=one_jvm,
        gateway=gateway,
        dashboard=dashboard,
        airflow=airflow,
        risk=risk,
        waveform=waveform,
        channels=str(file.resolve()) if file else None,
        sinks=str(sinks.resolve()) if sinks else None,
        port=broker_port,
        gateway_port=gateway_port or free_port(GATEWAY_PORT),
        mllp_port=free_port(MLLP_PORT) if mllp_port is None else mllp_port,
        dashboard_port=dashboard_port or free_port(DASHBOARD_PORT),
        report=report,
        verify=verify,
    )
    with failures(channels_file.ChannelsError, sinks_file.SinksError):
        # Now, and not when everything else has started.
        if file is not None:
            channels_file.load(file, os.environ)
        if sinks is not None:
            sinks_file.load(sinks)
        if report is not None and not report.absolute().parent.is_dir():
            raise Failure(f"cannot write {report}: its folder does not exist")
        if report is not None and report.is_dir():
            raise Failure(f"cannot write {report}: it is a folder")
        with stop_on_signals() as stop:
            outcome = run(options, settings, data_dir(path), stop, view())
        if report is not None and outcome.report is not None:
            report.write_bytes(orjson.dumps(outcome.report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            typer.echo(summary_line(outcome.report))
            typer.echo(f"report: {report}")
        if outcome.problems:
            raise Failure("; ".join(outcome.problems))
