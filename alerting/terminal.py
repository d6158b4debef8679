"""Alerts as lines in a terminal: one a transition, coloured by priority where the terminal has colours."""

from collections.abc import Callable

from alerting.lifecycle import SOUNDING, Event, State, Trigger
from alerting.message_text import clean
from alerting.words import instant, quantity

# IEC 60601-1-8 gives red to high, yellow to medium and cyan to low.
_STYLE = {"high": "bold red", "medium": "yellow", "low": "cyan"}
_CALLS = {*SOUNDING, State.LATCHED}
"""States in which somebody is wanted; the others are dim."""


def line(event: Event) -> str:
    """One transition in words; the instant is that of what caused it, in UTC."""
    place = " ".join(clean(event[name]) for name in ("location_unit", "location_bed") if name in event)
    kind, code = event.get("kind"), event.get("code")
    value = quantity(kind, code, event["value"]) if "value" in event else ""
    limit = f"limit {event['limit_value']:g}" if "limit_value" in event else ""
    return "  ".join(
        (
            instant(event["observed_at"]),
            f"{event['priority']:<6}",
            f"{event['state']:<12}",
            f"{event['title']:<28}",
            f"{value:>12}",
            f"{limit:<10}",
            f"{clean(event['patient_id']):<20}",
            f"{place:<12}",
            _why(event),
        )
    ).rstrip()


def _why(event: Event) -> str:
    """What only some transitions have: who, by what, which step; and reasons that the state does not tell."""
    if "actor" in event:
        note = f": {clean(event['note'])}" if "note" in event else ""
        return f"by {clean(event['actor'])}{note}"
    reason = event.get("reason")
    if "muted_by" in event:
        return f"by {'rule' if reason == Trigger.INHIBITED else 'silence'} {event['muted_by']}"
    if event["state"] == State.ESCALATED:
        return f"step {event.get('escalation_step', 1)}"
    return _REASONS.get(str(reason), "")


_REASONS = {
    Trigger.CLEARED_UNSEEN.value: "waits for somebody to acknowledge it",
    Trigger.BREACHED_AGAIN.value: "again",
    Trigger.UNMUTED.value: "no longer muted",
    Trigger.ENTERED_IN_ERROR.value: "the reading was taken back",
    Trigger.CORRECTED.value: "the reading was corrected",
    Trigger.RULE_WITHDRAWN.value: "the pack has no such rule any longer",
    Trigger.ABANDONED.value: "nothing heard for a day",
}


def printer(mark: str = "") -> Callable[[Event], None]:
    """What prints a transition to standard output, behind a mark."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)

    def show(event: Event) -> None:
        style = _STYLE.get(event["priority"], "") if event["state"] in _CALLS else "dim"
        # Text, not markup: what a device sends must not style the terminal.
        console.print(Text(mark + line(event), style=style))

    return show
