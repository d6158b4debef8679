"""Ways out that add up: analytics over time, and cohort tables as pages or whole files."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from gateway import analytics, cohorts
from gateway.answer import NO_TABLE, From, Json, Limit, Offset, To, page, span
from gateway.guard import visit
from gateway.problem import Problem
from lakehouse.datadir import DataDir
from lakehouse.deidentify import Key
from lakehouse.reader import VersionMissingError

_JSON = "application/json"
_Format = Literal["json", "arrow", "csv", "parquet"]
_MEDIA: dict[str, str] = {"json": _JSON, "arrow": cohorts.ARROW, "csv": cohorts.CSV, "parquet": cohorts.PARQUET}
_ENDING = {cohorts.ARROW: "arrows", cohorts.CSV: "csv", cohorts.PARQUET: "parquet"}
_COHORT: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {} for kind in _MEDIA.values()}},
    404: {"description": "No such cohort, or it has no such version"},
    406: {"description": "None of the kinds that are accepted can be made"},
}


def add(app: FastAPI, data: DataDir, clock: Callable[[], datetime], pseudonyms: Key | None = None) -> None:
    """Add the routes; who may see cohort tables under pseudonyms only sees them under those of this key."""
    _add_analytics(app, data, clock)
    _add_cohorts(app, data, pseudonyms)


def _add_analytics(app: FastAPI, data: DataDir, clock: Callable[[], datetime]) -> None:
    @app.get("/api/analytics", tags=["Ways out"], responses={503: NO_TABLE})
    def what_adds_up(
        request: Request,
        start: From = None,
        stop: To = None,
        patient: Annotated[str | None, Query(description="Only this patient, system/value.")] = None,
        unit: Annotated[str | None, Query(description="Alerts of this care unit only.")] = None,
    ) -> Response:
        """Averages by patient and signal, and alerts by unit and day; of the last day where no span is given."""
        start, stop = span(start, stop, clock(), analytics.LONGEST)
        among = visit(request).among()
        return Json(
            {
                "from": start,
                "to": stop,
                "averages": analytics.averages(data, start, stop, patient, among),
                "alert_burden": analytics.burden(data, start, stop, patient, unit, among),
            }
        )


def _add_cohorts(app: FastAPI, data: DataDir, pseudonyms: Key | None) -> None:
    def key_of(request: Request) -> Key | None:
        if not visit(request).caller.sees_pseudonyms:
            return None
        if pseudonyms is None:
            raise Problem(503, "cohorts are shown under pseudonyms: the gateway was started without --pseudonym-key")
        return pseudonyms

    @app.get("/api/cohorts", tags=["Ways out"])
    def list_cohorts(request: Request) -> Response:
        """The tables for research that have been built: columns, rows and version of each, before any is left out."""
        return Json({"cohorts": cohorts.listed(data, leaving=visit(request).caller.sees_pseudonyms)})

    @app.get("/api/cohorts/{name}", tags=["Ways out"], responses=_COHORT)
    def one_cohort(
        request: Request,
        name: str,
        version: Annotated[int | None, Query(ge=0, description="Delta version; the newest unless given.")] = None,
        kind: Annotated[_Format | None, Query(alias="format", description="Instead of Accept.")] = None,
        accept: Annotated[str, Header(description="JSON is paged; any other kind is the whole table.")] = "*/*",
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> Response:
        """One page as JSON, or the whole table as Arrow stream, CSV or Parquet.

        Pages are ordered by the columns, which begin with the key. Name the version that the first page tells, and
        they fit together whatever is built in between. Of a key of the scope research alone, patients have pseudonyms
        and shifted dates.
        """
        key = key_of(request)
        media_type = _MEDIA[kind] if kind else _accepted(accept)
        try:
            found = cohorts.version_of(data, name, version)
        except (cohorts.UnknownCohortError, VersionMissingError) as error:
            known = isinstance(error, VersionMissingError)
            raise Problem(404, f"{name} has no version {version} any more" if known else str(error)) from error
        headers = {"Content-Disposition": f'attachment; filename="{name}.{_ENDING.get(media_type)}"'}
        try:
            if media_type == _JSON:
                rows, total = cohorts.page(data, name, found, limit, offset, key)
                return page("rows", rows, total, limit, offset, cohort=name, version=found)
            return StreamingResponse(cohorts.whole(data, name, found, media_type, key), 200, headers, media_type)
        except cohorts.IdentifyingCohortError as error:
            raise Problem(403, str(error)) from error


def _accepted(accept: str) -> str:
    """The kind that a caller likes best among those that can be made. Raises Problem."""
    liked = [_quality(one) for one in accept.split(",")]
    for kind, quality in sorted(liked, key=lambda pair: -pair[1]):
        for made in _MEDIA.values():
            if quality > 0 and kind in (made, f"{made.split('/')[0]}/*", "*/*"):
                return made
    raise Problem(406, f"accept one of {', '.join(_MEDIA.values())}")


def _quality(text: str) -> tuple[str, float]:
    kind, *params = (part.strip().lower() for part in text.split(";"))
    given = next((one[2:] for one in params if one.startswith("q=")), "1")
    try:
        return kind, float(given)
    except ValueError:
        return kind, 0.0
