"""Times and numbers as the sources write them."""

import math
from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=65_536)
def instant(text: str) -> datetime | None:
    """``2180-07-23 12:36:00`` as an aware instant, or None.

    The sources give no zone, and the dates of each patient are moved by an amount nobody knows: UTC is as true as any,
    has no missing hour in spring, and gives the same instant everywhere.
    """
    if len(text) < len("2180-07-23 12:36:00") or text[10] not in " T":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else None


@lru_cache(maxsize=65_536)
def rfc3339(moment: datetime) -> str:
    """An aware UTC instant as messages have it."""
    return moment.isoformat().replace("+00:00", "Z")


def number(text: str) -> float | None:
    """A cell as a finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    # float() takes "1_000", which no source means by it.
    return value if math.isfinite(value) and "_" not in text else None
