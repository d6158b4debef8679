"""``ward simulate``: patients who do not exist, sending what their monitors would."""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.durations import seconds
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from streaming.simulator.simulation import Options

DEFAULT_PATIENTS = 100
DEFAULT_CADENCE_S = 1.0


def simulate(
    path: DataDirOption = DEFAULT_DATA_DIR,
    patients: Annotated[
        int | None,
        typer.Option(min=1, help=f"Number of patients; {DEFAULT_PATIENTS}, or rate x cadence if both given."),
    ] = None,
    cadence: Annotated[
        float | None, typer.Option(help="Seconds between two messages of a patient; 1, or patients / rate.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Messages a second of all patients together; patients / cadence.")
    ] = None,
    duration: Annotated[str | None, typer.Option(help="End after this time, such as 60s, 2m or 1h.")] = None,
    messages: Annotated[int | None, typer.Option(min=1, help="End after this many messages.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, patients and start: same messages, byte for byte.")] = 1,
    start: Annotated[
        str | None, typer.Option(help="Instant of the first reading, RFC 3339 with an offset; now if not given.")
    ] = None,
    faults: Annotated[str, typer.Option(help="Faults that are mixed in: none, default or heavy.")] = "default",
    fault: Annotated[
        list[str] | None, typer.Option(metavar="NAME=RATE", help="One fault's share of all messages; repeatable.")
    ] = None,
    episodes: Annotated[float, typer.Option(min=0, help="Episodes an hour that a patient begins.")] = 0.5,
    transients: Annotated[
        float, typer.Option(min=0, help="Harmless dips of SpO2 and peaks of heart rate, in a patient's hour.")
    ] = 0.0,
    waveform: Annotated[
        int, typer.Option(min=0, help="So many of the patients send an ECG as well: two leads at 250 Hz.")
    ] = 0,
    unit_beds: Annotated[
        list[str] | None, typer.Option(metavar="UNIT=BEDS", help="Beds of one care unit, such as ICU=20; repeatable.")
    ] = None,
) -> None:
    """Send vital signs of simulated patients, with labelled episodes and faults, and write down the truth.

    Rate, patients and cadence hang together: rate = patients / cadence. Give two, or one (the others are 100 patients
    and one message a second each), and the rest follows; three that contradict each other are an error. Each run
    writes DATA_DIR/truth/RUN.jsonl: every message sent, every fault and episode, and what must become of them.
    """
    import logging
    from contextlib import nullcontext

    from lakehouse.topics import CLINICAL_RESOURCE, VITALS, WAVEFORM
    from streaming.producer import ProducerError
    from streaming.simulator.sender import Limits, run
    from streaming.simulator.truth import TruthError
    from streaming.simulator.waveform import sending
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.signals import stop_on_signals

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A broker that is away is said once in five seconds by the sender, and not ten times a second by its client.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    size, every = resolve(patients, cadence, rate)
    if waveform > size:
        raise typer.BadParameter(f"--waveform {waveform}: there are {size} patients")
    options = _options(size, every, seed, start, episodes, transients, faults, fault or (), unit_beds or ())
    limits = Limits(seconds(duration) if duration else None, messages)
    settings, data = Settings(), data_dir(path)
    bootstrap = bootstrap_servers(settings, data)
    hearts = sending(options, waveform, bootstrap, settings.topic(WAVEFORM)) if waveform else nullcontext()
    with (
        failures(ProducerError, TruthError),
        component(data, "simulator") as running,
        stop_on_signals() as stop,
        hearts,
    ):
        typer.echo(f"run {options.run}: {size} patients, {options.rate:g} messages/s")
        summary = run(
            options,
            bootstrap,
            data.truth,
            data.progress("simulator"),
            limits=limits,
            topics={topic.name: settings.topic(topic) for topic in (VITALS, CLINICAL_RESOURCE)},
            stopping=stop.is_set,
            on_ready=running.ready,
        )
    typer.echo(f"sent {summary['sent']}, acknowledged {summary['acknowledged']}: {data.truth / options.run}.jsonl")


def resolve(patients: int | None, cadence: float | None, rate: float | None) -> tuple[int, float]:
    """Patients and cadence (seconds) out of what was given of the three. Raises BadParameter on a contradiction."""
    if any(value is not None and not 0 < value < inf for value in (cadence, rate)):
        raise typer.BadParameter("--cadence and --rate must be greater than 0")
    if rate is None:
        return patients or DEFAULT_PATIENTS, cadence or DEFAULT_CADENCE_S
    if cadence is None:
        size = patients or DEFAULT_PATIENTS
        return size, size / rate
    size = patients or max(1, round(rate * cadence))
    if abs(size / cadence - rate) > 1e-6 * rate:
        raise typer.BadParameter(f"{size} patients every {cadence:g} s are {size / cadence:g} messages/s, not {rate:g}")
    return size, cadence


def _options(
    size: int,
    cadence: float,
    seed: int,
    start: str | None,
    episodes: float,
    transients: float,
    preset: str,
    changes: Sequence[str],
    beds: Sequence[str],
) -> "Options":
    from streaming.simulator.faults import FaultError, parse_change, rates
    from streaming.simulator.simulation import Options
    from streaming.simulator.transients import MOST_PER_HOUR

    if transients > MOST_PER_HOUR:
        raise typer.BadParameter(f"--transients {transients:g}: at most {MOST_PER_HOUR:g} an hour")
    try:
        return Options(
            start=_instant(start),
            patients=size,
            cadence=cadence,
            seed=seed,
            episodes_per_hour=episodes,
            fault_rates=rates(preset, dict(parse_change(change) for change in changes)),
            beds=_beds(beds, size),
            transients_per_hour=transients,
        )
    except FaultError as error:
        raise typer.BadParameter(str(error)) from error


def _instant(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"--start {text}: not an instant such as 2026-01-31T12:00:00Z") from error
    if instant.tzinfo is None:
        raise typer.BadParameter(f"--start {text}: give the offset as well, such as {text}Z")
    return instant


def _beds(texts: Sequence[str], patients: int) -> dict[str, int] | None:
    beds: dict[str, int] = {}
    for text in texts:
        unit, _, count = text.partition("=")
        if not unit or not count.isdecimal() or int(count) < 1:
            raise typer.BadParameter(f"--unit-beds {text}: give UNIT=BEDS, such as ICU=20")
        beds[unit] = int(count)
    if beds and sum(beds.values()) < patients:
        raise typer.BadParameter(f"{patients} patients do not fit into the {sum(beds.values())} beds of --unit-beds")
    return beds or None
