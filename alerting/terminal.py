"""Alerts as lines in a terminal: one a transition, coloured by priority where the terminal has colours."""

from collections.abc import Callable
from datetime import UTC, datetime

from alerting.lifecycle import Event
from lakehouse.vocabulary import signal_by_code

# IEC 60601-1-8 gives red to high, yellow to medium and cyan to low.
_STYLE = {"high": "bold red", "medium": "yellow", "low": "cyan"}


def line(event: Event) -> str:
    """One transition in words; the instant is that of the value, in UTC."""
    at = datetime.fromtimestamp(event["observed_at"] / 1000, UTC)
    place = " ".join(event[name] for name in ("location_unit", "location_bed") if name in event)
    signal = signal_by_code().get(event["code"])
    unit = f" {signal.unit}" if signal and signal.unit else ""
    value = f"{event['value']:g}{unit}" if "value" in event else ""
    limit = f"limit {event['limit_value']:g}" if "limit_value" in event else ""
    return "  ".join(
        (
            f"{at:%Y-%m-%d %H:%M:%S}Z",
            f"{event['priority']:<6}",
            f"{event['state']:<8}",
            f"{event['title']:<28}",
            f"{value:>12}",
            f"{limit:<10}",
            f"{event['patient_id']:<20}",
            place,
        )
    ).rstrip()


def printer() -> Callable[[Event], None]:
    """What prints a transition to standard output."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)

    def show(event: Event) -> None:
        style = "dim" if event["state"] == "resolved" else _STYLE.get(event["priority"], "")
        # Text, not markup: what a device sends must not style the terminal.
        console.print(Text(line(event), style=style))

    return show
