"""Times as a person gives them on the command line."""

import re
from datetime import UTC, datetime, timedelta

import typer

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """60s, 2m, 1.5h, 30d or plain seconds. Raises BadParameter."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if found is None or float(found[1]) == 0:
        raise typer.BadParameter(f"{text}: give a time such as 60s, 2m or 1h")
    return float(found[1]) * _SECONDS[found[2]]


def instant(text: str) -> datetime:
    """An instant as RFC 3339 writes it, 2026-01-31T12:00:00Z. Raises BadParameter."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise typer.BadParameter(f"{text}: give an instant with its offset, such as 2026-01-31T12:00:00Z")
    return at


def ahead(text: str, now: datetime) -> datetime:
    """So long after now (8h, 90d), or an instant: as UTC. Raises BadParameter."""
    return _instant(text) or now + timedelta(seconds=seconds(text))


def back(text: str, now: datetime) -> datetime:
    """So long before now (8h, 30d), or an instant: as UTC. Raises BadParameter."""
    return _instant(text) or now - timedelta(seconds=seconds(text))


def _instant(text: str) -> datetime | None:
    return instant(text).astimezone(UTC) if re.match(r"\d{4}-", text.strip()) else None
