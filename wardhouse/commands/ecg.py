"""``ward ecg``: recordings of an ECG into the stack."""

from pathlib import Path
from typing import Annotated

import typer

from wardhouse.durations import instant
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

app = typer.Typer(no_args_is_help=True, help="Recordings of an ECG.")


@app.command()
def send(
    record: Annotated[Path, typer.Argument(help="A WFDB record: its path without an extension.")],
    patient: Annotated[str, typer.Option(help="Whose it is, system/value.")],
    started_at: Annotated[str, typer.Option(help="When it began, RFC 3339 with an offset: headers have no zone.")],
    path: DataDirOption = DEFAULT_DATA_DIR,
    device: Annotated[str, typer.Option(help="The device that recorded it.")] = "recorder",
    source: Annotated[str, typer.Option(help="The sending system.")] = "wfdb",
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="Length of a chunk.")] = 10.0,
) -> None:
    """Send the leads of a WFDB record to the topic of waveforms, chunk by chunk, as fast as the broker takes them.

    The same command again sends the same messages, which count once. `ward stream waveform` lands them.
    """
    from lakehouse.ecg.message import WaveformMessageError, encode
    from lakehouse.ecg.wfdb_reader import WfdbRecordError, chunks
    from lakehouse.topics import WAVEFORM
    from streaming.producer import Producer, ProducerError
    from wardhouse.broker import bootstrap_servers
    from wardhouse.ecg import require_packages
    from wardhouse.errors import failures

    settings, data, begun = Settings(), data_dir(path), instant(started_at)
    with failures(WfdbRecordError, WaveformMessageError, ProducerError):
        require_packages()
        # All of it before the first is sent: a record that ends in an error is not sent by half.
        messages = [
            encode(chunk, f"{record.name}/{chunk.signal}/{chunk.started_at.isoformat()}", source)
            for chunk in chunks(record, patient, device, begun, seconds)
        ]
        with Producer(bootstrap_servers(settings, data), client_id="ward-ecg") as producer:
            for message in messages:
                producer.send(settings.topic(WAVEFORM), patient.encode(), message)
            sent = producer.flush().acknowledged
    typer.echo(f"sent {sent} chunks of {record.name} as {patient}")
