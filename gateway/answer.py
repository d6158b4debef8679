"""What the ways out have in common: JSON as they write it, pages of lists, and the span of time that a caller wants."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import orjson
from fastapi import Query, Response
from pydantic import AwareDatetime

from gateway.problem import Problem

_MOST_ROWS = 1000
"""Rows of one page: some hundred kilobytes, which a browser draws at once."""

Limit = Annotated[int, Query(ge=1, le=_MOST_ROWS, description="Rows of one page.")]
Offset = Annotated[int, Query(ge=0, description="Rows before the page.")]
From = Annotated[AwareDatetime | None, Query(alias="from", description="RFC 3339 with an offset; inclusive.")]
To = Annotated[AwareDatetime | None, Query(alias="to", description="RFC 3339 with an offset; exclusive.")]

DAY = timedelta(days=1)
NO_TABLE = {"description": "A table that it is read from has not been made yet"}


class Json(Response):
    """JSON by orjson: instants in RFC 3339, UTC as Z."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return orjson.dumps(content, option=orjson.OPT_UTC_Z)


def page(name: str, rows: Sequence[Any], total: int, limit: int, offset: int, **more: Any) -> Json:
    """One page of a list of ``total`` rows, under a name."""
    return Json({"total": total, "limit": limit, "offset": offset, **more, name: list(rows)})


def span(start: datetime | None, stop: datetime | None, now: datetime, longest: timedelta) -> tuple[datetime, datetime]:
    """The span that was asked for; the day up to its end, or up to now, where it is not said. Raises Problem."""
    stop = stop or now
    start = start or stop - DAY
    if not timedelta(0) < stop - start <= longest:
        raise Problem(422, f"from must be before to, and the span at most {longest.days} days")
    return start, stop
