"""``ward status``: how the stack of a data dir stands."""

from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from rich.table import Table

    from wardhouse.status import Status


def status(
    path: DataDirOption = DEFAULT_DATA_DIR,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show components, flows (records, rate, lag, time of a batch) and topics."""
    from dataclasses import asdict

    import orjson
    from rich.console import Console

    from wardhouse.errors import Failure, failures
    from wardhouse.pausing import WRITERS
    from wardhouse.status import read_status, utc_now

    with failures():
        data = data_dir(path)
        if not data.root.is_dir():
            raise Failure(f"no data dir {data.root}: `ward up --data-dir {data.root}` makes one")
        found = read_status(Settings(), data, utc_now())
    if json:
        typer.echo(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2))
        return
    console = Console()
    console.print(f"data dir {found.data_dir}", highlight=False, markup=False)
    console.print(f"Kafka    {found.bootstrap or 'no broker answers'}", highlight=False, markup=False)
    if found.paused:
        pausing = any(item.name in WRITERS and not item.paused for item in found.components)
        word = "pausing " if pausing else "paused  "
        since = f"{word} since {found.paused.since} ({found.paused.reason}); alerts go on"
        console.print(since, highlight=False, markup=False)
    for table in _tables(found):
        console.print()
        console.print(table)


def _tables(found: "Status") -> tuple["Table", ...]:
    from rich.table import Table

    from wardhouse.terminal import number

    components = Table("component", "state", "pid", "address", box=None, header_style="bold", pad_edge=False)
    for item in found.components:
        components.add_row(item.name, "paused" if item.paused else item.state, str(item.pid), item.address or "")
    if not found.components:
        components.add_row("nothing runs", "", "", "")
    flows = Table(
        "flow",
        "records",
        "per s",
        "lag",
        "batch s",
        "last heard",
        "error",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for flow in found.flows:
        took = "-" if flow.duration_ms is None else f"{flow.duration_ms / 1000:.1f}"
        heard = f"{flow.at:%Y-%m-%d %H:%M:%S}Z" if flow.at else "never"
        flows.add_row(
            flow.flow, number(flow.records), number(flow.rate), number(flow.lag), took, heard, flow.error or ""
        )
    topics = Table("topic", "end offset", box=None, header_style="bold", pad_edge=False)
    for topic in found.topics:
        topics.add_row(topic.topic, number(topic.end_offset))
    return components, flows, topics
