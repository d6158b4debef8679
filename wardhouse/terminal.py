"""What ``ward up`` shows: a live view in a terminal, or a line now and then where the output is a file or a pipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from lakehouse.flow_status import FlowStatus
from wardhouse.processes import Condition

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

PLAIN_EVERY_S = 10.0
ALERTS_SHOWN = 8
_REFRESH_PER_S = 2
# Green for what serves; everything else asks for a look.
_STATE_STYLE = {
    "ready": "green",
    "running": "green",
    "starting": "yellow",
    "paused": "yellow",
    "restarting": "bold red",
    "stopped": "dim",
}


@dataclass(frozen=True)
class Picture:
    """Everything that is shown at one instant. Times in seconds, rates in records a second, latency in ms."""

    phase: str
    elapsed_s: float
    remaining_s: float | None
    data_dir: Path
    bootstrap: str | None
    conditions: tuple[Condition, ...] = ()
    flows: tuple[FlowStatus, ...] = ()
    sent: int | None = None
    send_rate: float | None = None
    open_alerts: int | None = None
    events: int = 0
    latency_ms: tuple[float, float] | None = None
    """p50 and p99 of the latest alerts."""
    alerts: tuple[str, ...] = ()
    """The latest transitions, one line each, newest last."""
    waiting_for: tuple[str, ...] = ()


class View(Protocol):
    """Where ``ward up`` shows itself."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, picture: Picture) -> None:
        """Show this instead of what was shown before."""

    def say(self, text: str) -> None:
        """Something that happened, which stays to be read."""


class LiveView:
    """A picture that is drawn anew twice a second, in a terminal; what happened scrolls above it."""

    def __init__(self, console: "Console") -> None:
        from rich.live import Live

        self._console = console
        self._live = Live(console=console, refresh_per_second=_REFRESH_PER_S, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, picture: Picture) -> None:
        """Draw it."""
        self._live.update(render(picture))

    def say(self, text: str) -> None:
        """Print above the picture."""
        from rich.text import Text

        # Text, not markup: log lines are full of square brackets.
        self._live.console.print(Text(text))


class PlainView:
    """One line every ten seconds and the alerts since the last one, for a log."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._shown_at: float | None = None
        self._phase = ""
        self._events = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def show(self, picture: Picture) -> None:
        """Print the picture's line when it is time, or when something else begins."""
        due = self._shown_at is None or picture.elapsed_s - self._shown_at >= PLAIN_EVERY_S
        if not due and picture.phase == self._phase:
            return
        fresh = picture.events - self._events
        self._shown_at, self._phase, self._events = picture.elapsed_s, picture.phase, picture.events
        self.say(plain_line(picture))
        for line in picture.alerts[len(picture.alerts) - min(fresh, len(picture.alerts)) :]:
            self.say(f"    {line}")

    def say(self, text: str) -> None:
        """Print it."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def view() -> View:
    """The view that suits standard output."""
    from rich.console import Console

    console = Console()
    return LiveView(console) if console.is_terminal else PlainView(console)


def plain_line(picture: Picture) -> str:
    """The picture in one line."""
    parts = [f"{duration(picture.elapsed_s)} {picture.phase}"]
    if unready := [
        f"{item.name} {item.state}" for item in picture.conditions if item.state in ("starting", "paused", "restarting")
    ]:
        parts.append(", ".join(unready))
    if picture.sent is not None:
        parts.append(f"sent {picture.sent:,} ({number(picture.send_rate)}/s)")
    parts += [
        f"{flow.flow} {flow.records:,} ({number(flow.rate)}/s, lag {number(flow.lag)})"
        for flow in picture.flows
        if flow.at is not None
    ]
    if picture.open_alerts is not None:
        parts.append(f"open alerts {picture.open_alerts}")
    if picture.latency_ms:
        parts.append(f"alert latency p50 {picture.latency_ms[0]:.0f} p99 {picture.latency_ms[1]:.0f} ms")
    if picture.waiting_for:
        parts.append("waiting for " + ", ".join(picture.waiting_for))
    return " | ".join(parts)


def render(picture: Picture) -> "RenderableType":
    """The picture for a terminal."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    left = f", {duration(picture.remaining_s)} left" if picture.remaining_s is not None else ""
    waiting = f"   waiting for {', '.join(picture.waiting_for)}" if picture.waiting_for else ""
    head = Text(f"{picture.phase}   {duration(picture.elapsed_s)}{left}{waiting}")
    latency = (
        f"p50 {picture.latency_ms[0]:.0f} ms, p99 {picture.latency_ms[1]:.0f} ms" if picture.latency_ms else "none yet"
    )
    sent = f"sent {number(picture.sent)} ({number(picture.send_rate)}/s)   " if picture.sent is not None else ""
    figures = Text(f"{sent}open alerts {number(picture.open_alerts)}   alert latency {latency}")
    alerts = Text("\n".join(picture.alerts[-ALERTS_SHOWN:]) or "no alert yet", no_wrap=True, overflow="ellipsis")
    foot = Text(f"Kafka {picture.bootstrap or '-'}   data and logs {picture.data_dir}   Ctrl-C stops", style="dim")
    tables = Columns([_components(picture.conditions), _flows(picture.flows)], padding=(0, 2))
    body = Group(head, tables, figures, Panel(alerts, title="alerts", title_align="left", border_style="dim"), foot)
    return Panel(body, title="Wardhouse (not a medical device)", title_align="left")


def duration(seconds: float) -> str:
    """0:42, 12:05, 1:02:03."""
    whole = max(0, int(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def number(value: float | None) -> str:
    """A count or rate with its thousands apart; a dash for one that is not known."""
    return "-" if value is None else f"{value:,.0f}"


def _components(conditions: Sequence[Condition]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("component", "state", "MB", "CPU s", "address", box=None, header_style="bold", pad_edge=False)
    for item in conditions:
        state = item.state + (f" ({item.restarts})" if item.restarts else "")
        table.add_row(
            item.name,
            Text(state, style=_STATE_STYLE[item.state]),
            number(item.rss_mb),
            number(item.cpu_s),
            item.address or "",
        )
    return table


def _flows(flows: Sequence[FlowStatus]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("flow", "records", "per s", "lag", "batch s", box=None, header_style="bold", pad_edge=False)
    for flow in flows:
        took = "" if flow.duration_ms is None else f"{flow.duration_ms / 1000:.1f}"
        name = Text(flow.flow, style="bold red" if flow.error else "")
        table.add_row(name, number(flow.records), number(flow.rate), number(flow.lag), took)
    return table
