from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console

from lakehouse.flow_status import FlowStatus
from wardhouse.durations import seconds
from wardhouse.processes import Condition
from wardhouse.terminal import Picture, PlainView, duration, number, plain_line, render

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PICTURE = Picture(
    phase="running",
    elapsed_s=75,
    remaining_s=45,
    data_dir=Path("/data"),
    bootstrap="127.0.0.1:9092",
    conditions=(
        Condition("broker", "ready", 10, "127.0.0.1:9092", 0, 300.0, 5.0),
        Condition("router", "restarting", None, None, 2, 0.0, 1.0),
    ),
    flows=(
        FlowStatus("device_message", "lakehouse", NOON, 12_345, 987.6, 3, 1500),
        FlowStatus("observation", "lakehouse"),
    ),
    sent=13_000,
    send_rate=1000.2,
    open_alerts=4,
    events=2,
    latency_ms=(14.2, 65.9),
    alerts=("first alert", "second [red]alert[/red]"),
)


def test_a_picture_in_one_line_tells_what_is_known() -> None:
    assert plain_line(PICTURE) == (
        "1:15 running | router restarting | sent 13,000 (1,000/s) | device_message 12,345 (988/s, lag 3)"
        " | open alerts 4 | alert latency p50 14 p99 66 ms"
    )


def test_a_picture_before_anything_runs_is_short() -> None:
    assert plain_line(Picture("starting", 0, None, Path("/data"), None)) == "0:00 starting"


def test_the_picture_for_a_terminal_shows_components_flows_alerts_and_addresses() -> None:
    console = Console(file=StringIO(), width=160, force_terminal=False)
    console.print(render(replace(PICTURE, waiting_for=("observation 1",))))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "running   1:15, 0:45 left   waiting for observation 1",
        "restarting (2)",
        "127.0.0.1:9092",
        "12,345",
        "p50 14 ms, p99 66 ms",
        "second [red]alert[/red]",
        "data and logs /data",
        "not a medical device",
    ):
        assert part in text


def test_a_log_gets_a_line_every_ten_seconds_and_each_alert_once() -> None:
    console = Console(file=StringIO(), width=200)
    view = PlainView(console)
    view.show(replace(PICTURE, elapsed_s=1, events=0, alerts=(), sent=None, flows=(), latency_ms=None))
    view.show(replace(PICTURE, elapsed_s=9))
    view.show(replace(PICTURE, elapsed_s=11, sent=None, flows=(), latency_ms=None))
    view.show(replace(PICTURE, elapsed_s=12, phase="stopping", sent=None, flows=(), latency_ms=None))
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "0:01 running | router restarting | open alerts 4",
        "0:11 running | router restarting | open alerts 4",
        "    first alert",
        "    second [red]alert[/red]",
        "0:12 stopping | router restarting | open alerts 4",
    ]


def test_numbers_and_durations_read_well() -> None:
    assert [number(None), number(0.4), number(1234567)] == ["-", "0", "1,234,567"]
    assert [duration(5), duration(65.9), duration(3723)] == ["0:05", "1:05", "1:02:03"]


@pytest.mark.parametrize(("text", "value"), [("60s", 60), ("2m", 120), ("1.5h", 5400), ("90", 90), (" 5 s ", 5)])
def test_a_duration_is_read_with_its_unit(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "soon", "-5s", "0s", "5w", "1m30s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="give a time such as 60s"):
        seconds(text)
