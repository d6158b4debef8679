"""What people may order about alerts, whichever way they say it: the command line and the gateway share it."""

import time
from datetime import timedelta
from secrets import token_hex

from alerting.lifecycle import OPEN, Alert, State

LONGEST = timedelta(hours=24)
"""A silence that outlasts a day is forgotten by who made it: it must be asked for."""


class OrderError(ValueError):
    """What was ordered cannot be; the text says why."""


class PastEndError(OrderError):
    """A silence would be over before it begins."""


class LongSilenceError(OrderError):
    """A silence would last longer than a day, and that was not asked for."""


def now_ms() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def fresh_id() -> str:
    """A new id of a command or silence."""
    return token_hex(6)


def why_not_acknowledged(alert: Alert) -> str | None:
    """Why an alert cannot be acknowledged as it stands, to be read behind its name; None: it can."""
    return why_not_acknowledged_in(alert.state)


def why_not_acknowledged_in(state: State) -> str | None:
    """The same, by the alert's state."""
    if state is State.ACKNOWLEDGED:
        return "is acknowledged already"
    if state is State.PENDING:
        return "is pending: its delay is not over, and nobody was told of it yet"
    return None if state in OPEN else f"is not open any more: it is {state}"


def check_end(at: int, ends: int, *, long: bool) -> None:
    """See that a silence from ``at`` may end then (epoch ms). Raises PastEndError and LongSilenceError."""
    if ends <= at:
        raise PastEndError("a silence must end after it begins")
    if ends - at > LONGEST.total_seconds() * 1000 and not long:
        hours = LONGEST // timedelta(hours=1)
        raise LongSilenceError(f"a silence of more than {hours} h is forgotten by who made it")
