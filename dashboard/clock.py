"""Instants as people read them: in the reader's time zone, which is always named."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_STEPS = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "min"),
    (timedelta(seconds=1), "s"),
)


def zone(name: str | None) -> ZoneInfo:
    """The zone that the browser names; UTC where it names none, or none that this machine knows."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def moment(instant: datetime, zone: ZoneInfo, now: datetime) -> str:
    """Time of day, with the date on another day than now, and the zone's short name: ``14:05 CET``."""
    local, today = instant.astimezone(zone), now.astimezone(zone).date()
    return local.strftime("%H:%M %Z" if local.date() == today else "%Y-%m-%d %H:%M %Z")


def span(length: timedelta) -> str:
    """A length of time in its largest whole unit: ``3 min``."""
    for step, word in _STEPS:
        if length >= step:
            return f"{length // step} {word}"
    return "0 s"


def ago(instant: datetime, now: datetime) -> str:
    """How long ago; an instant of a shifted clock, in the future, is said to be so."""
    return "ahead of now" if instant > now else f"{span(now - instant)} ago"


def wall(instant: datetime, zone: ZoneInfo) -> datetime:
    """The reading of a wall clock in the zone, labelled UTC: charts on a UTC scale then show it in any browser."""
    return instant.astimezone(zone).replace(tzinfo=UTC)
