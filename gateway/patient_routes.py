"""Ways out about patients: who is known, latest vitals, history, stays and scores."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from pydantic import AwareDatetime

from gateway import live, patients, series
from gateway.answer import DAY, NO_TABLE, From, Json, Limit, Offset, To, page, span
from gateway.guard import visit
from gateway.problem import Problem
from gateway.services import services
from lakehouse import stored_scores
from lakehouse.datadir import DataDir
from lakehouse.scores import Score

_NOTHING_YET = {"description": "Nothing was received from this patient within the last day"}
_UNIT = Query(description="Only this care unit.")
_SCORE = Query(description="Which score.")
_TABLES: dict[int | str, dict[str, Any]] = {503: NO_TABLE}


def add(app: FastAPI, data: DataDir, clock: Callable[[], datetime]) -> None:
    """Add the routes. A patient_id is system/value, hence the path converter."""
    _add_patients(app, data, clock)
    _add_vitals(app, data, clock)
    _add_scores(app, data, clock)


def _add_patients(app: FastAPI, data: DataDir, clock: Callable[[], datetime]) -> None:
    @app.get("/api/patients", tags=["Ways out"], responses=_TABLES)
    def known_patients(
        request: Request,
        unit: Annotated[str | None, _UNIT] = None,
        since: Annotated[
            AwareDatetime | None, Query(description="Heard of since then; a day ago unless given.")
        ] = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> Response:
        """Patients who were heard of within the last day, or who have an open alert, by id."""
        now = clock()
        since = since or now - DAY
        if not timedelta(0) < now - since <= patients.LONGEST:
            raise Problem(422, f"since must be before now, and at most {patients.LONGEST.days} days")
        found = patients.known(data, services(request).cache, unit, since, visit(request).among())
        return page("patients", found[offset : offset + limit], len(found), limit, offset)

    @app.get("/api/patients/{patient_id:path}/encounters", tags=["Ways out"], responses=_TABLES)
    def encounters_of_a_patient(patient_id: str) -> Response:
        """Admissions and stays in units, the latest first, each as it was last told."""
        return Json({"patient_id": patient_id, "encounters": patients.encounters(data, patient_id)})


def _add_vitals(app: FastAPI, data: DataDir, clock: Callable[[], datetime]) -> None:
    @app.get("/api/patients/{patient_id:path}/vitals/latest", tags=["Ways out"], responses={404: _NOTHING_YET})
    async def latest_vitals_of_a_patient(request: Request, patient_id: str) -> Response:
        """The latest valid value of each signal, within two seconds of its arrival."""
        patient = services(request).cache.patient(patient_id)
        if patient is None:
            raise Problem(404, "nothing was received from this patient within the last day")
        return Json(live.describe(patient))

    @app.get("/api/vitals/latest", tags=["Ways out"])
    async def latest_vitals(request: Request, unit: Annotated[str | None, _UNIT] = None) -> Response:
        """The latest vitals of every patient, or of those in one care unit."""
        among = await asyncio.to_thread(visit(request).among)
        found = services(request).cache.patients(unit)
        return Json({"patients": [live.describe(one) for one in found if among is None or one.patient_id in among]})

    @app.get("/api/patients/{patient_id:path}/vitals/series", tags=["Ways out"], responses=_TABLES)
    def vitals_over_time(
        patient_id: str,
        code: Annotated[str | None, Query(description="LOINC; every signal where it is left out")] = None,
        start: From = None,
        stop: To = None,
        resolution: Annotated[
            Literal["minute", "hour", "auto"], Query(description="auto: by hour beyond two days, else by minute.")
        ] = "auto",
    ) -> Response:
        """Statistics by minute or hour, for the last day where no span is given."""
        start, stop = span(start, stop, clock(), max(series.LONGEST.values()))
        chosen = series.chosen(resolution, stop - start)
        span(start, stop, clock(), series.LONGEST[chosen])
        found = series.series(data, patient_id, code, start, stop, chosen)
        return Json({"patient_id": patient_id, "from": start, "to": stop, "resolution": chosen, "series": found})


def _add_scores(app: FastAPI, data: DataDir, clock: Callable[[], datetime]) -> None:
    @app.get("/api/patients/{patient_id:path}/scores", tags=["Ways out"], responses=_TABLES)
    def scores_of_a_patient(
        patient_id: str, score: Annotated[Score, _SCORE] = Score.NEWS2, start: From = None, stop: To = None
    ) -> Response:
        """Each change of a score within a span, what stood at its start, and what stands now.

        A total is null where a missing input could change it; total_min and total_max say between what it lies.
        """
        start, stop = span(start, stop, clock(), stored_scores.LONGEST)
        points = stored_scores.series(data, patient_id, score, start, stop)
        now = stored_scores.current(data, score, clock(), patient_id).get(patient_id)
        shown = {"patient_id": patient_id, "score": score, "from": start, "to": stop}
        return Json({**shown, "current": now, "points": points})

    @app.get("/api/scores", tags=["Ways out"], responses=_TABLES)
    def current_scores(
        request: Request,
        score: Annotated[Score, _SCORE] = Score.NEWS2,
        unit: Annotated[str | None, _UNIT] = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> Response:
        """What a score stands at for each patient who is heard of, the worst first."""
        among = visit(request).among()
        places = {patient.patient_id: patient.unit for patient in services(request).cache.patients()}
        found = [
            {"patient_id": name, "unit": places.get(name), **row}
            for name, row in stored_scores.current(data, score, clock()).items()
            if unit in (None, places.get(name)) and (among is None or name in among)
        ]
        found.sort(key=lambda row: (-row["total_max"], -row["total_min"], row["patient_id"]))
        return page("scores", found[offset : offset + limit], len(found), limit, offset, score=score)
