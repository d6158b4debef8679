"""Ways out about alerts, and what people do about them."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from alerting.command import Silence
from alerting.lifecycle import State
from gateway import alerts
from gateway.answer import NO_TABLE, Json, Limit, Offset, page
from gateway.body import read_body
from gateway.guard import Visit, unseen, visit
from gateway.ingest import BrokerUnavailableError, Receipt, Record
from gateway.live import instant
from gateway.orders import Orders, unavailable
from gateway.problem import Problem
from gateway.services import services
from lakehouse.datadir import DataDir

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
_Body = TypeVar("_Body", bound=BaseModel)

_JSON = "application/json"
_MAX_BODY_BYTES = 16 * 1024
_AnyState = State | Literal["open"]
_Priority = Literal["high", "medium", "low"]

_ORDER: dict[int | str, dict[str, Any]] = {
    415: {"description": "The body is not declared as JSON"},
    422: {"description": "What is ordered cannot be; the problem says why"},
    503: {"description": "No broker: nothing was ordered, and nothing waits on the spool"},
}


class AcknowledgeOrder(BaseModel):
    """Who takes an alert on, and what they say about it."""

    model_config = ConfigDict(extra="forbid")
    by: _Text
    note: _Text | None = None


class SilenceOrder(BaseModel):
    """What to tell nobody of, why, and until when. Of several of patient, rule and unit all must be so."""

    model_config = ConfigDict(extra="forbid")
    by: _Text
    reason: _Text
    patient: _Text | None = None
    rule: _Text | None = None
    unit: _Text | None = None
    until: AwareDatetime | None = Field(None, description="RFC 3339 with an offset.")
    lasting: timedelta | None = Field(
        None, alias="for", gt=timedelta(0), le=timedelta(days=366), description="Seconds, or ISO 8601 such as PT30M."
    )
    long: bool = Field(False, description="It may last longer than 24 h.")

    @model_validator(mode="after")
    def _is_whole(self) -> "SilenceOrder":
        if not (self.patient or self.rule or self.unit):
            raise ValueError("give patient, rule, unit or several of them")
        if (self.until is None) is (self.lasting is None):
            raise ValueError("give for or until")
        return self

    def ends(self, now: datetime) -> datetime:
        """When it ends."""
        return self.until if self.until is not None else now + (self.lasting or timedelta())


def add(app: FastAPI, data: DataDir, orders: Orders) -> None:
    """Add the routes."""
    _add_reading(app, data, orders)
    _add_acknowledge(app, orders)
    _add_silences(app, orders)


def _add_reading(app: FastAPI, data: DataDir, orders: Orders) -> None:
    @app.get("/api/alerts", tags=["Ways out"], responses={503: NO_TABLE})
    def list_alerts(
        request: Request,
        state: Annotated[
            list[_AnyState] | None, Query(description="Any of these; open: each that is not over.")
        ] = None,
        unit: Annotated[str | None, Query(description="Only of this care unit.")] = None,
        patient: Annotated[str | None, Query(description="Only of this patient, system/value.")] = None,
        priority: Annotated[list[_Priority] | None, Query(description="Any of these.")] = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> Response:
        """Alerts as they stand, those that changed last first; as old as the flow that writes gold (up to 90 s)."""
        found, total = alerts.listed(
            data,
            states=state or (),
            unit=unit,
            patient=patient,
            priorities=priority or (),
            limit=limit,
            offset=offset,
            among=visit(request).among(),
        )
        return page("alerts", found, total, limit, offset)

    @app.get(
        "/api/alerts/{alert_id}", tags=["Ways out"], responses={404: {"description": "No such alert"}, 503: NO_TABLE}
    )
    def one_alert(request: Request, alert_id: str) -> Response:
        """One alert as it stands, and its transitions in their order."""
        found = alerts.alert(data, alert_id)
        if found is None:
            raise Problem(404, f"gold.alert has no alert {alert_id}; one that has just opened is there within 90 s")
        here = visit(request)
        here.patient_id = found["patient_id"]
        if not here.sees(found["patient_id"]):
            raise unseen()
        return Json(found)

    @app.get("/api/silences", tags=["Ways out"], responses={503: _ORDER[503]})
    def silences_in_force(request: Request) -> Response:
        """The silences in force: what they mute, until when, who made them and why."""
        here = visit(request)
        return Json({"silences": [_described(one) for one in orders.silences() if _concerns(here, one)]})


def _add_acknowledge(app: FastAPI, orders: Orders) -> None:
    @app.post(
        "/api/alerts/{alert_id}/acknowledge",
        status_code=202,
        tags=["Alerts"],
        openapi_extra=_takes(AcknowledgeOrder),
        responses={
            **_ORDER,
            404: {"description": "No alert of this id is open"},
            409: {"description": "It is acknowledged already, or pending, so that nobody was told of it yet"},
        },
    )
    async def acknowledge(request: Request, alert_id: str) -> Response:
        """Somebody is taking care of it: it is not escalated further. Taken by the router within a second."""
        order = await _read(request, AcknowledgeOrder)
        here = visit(request)
        record = await asyncio.to_thread(orders.acknowledge, alert_id, here.by(order.by), order.note, here.sees)
        here.patient_id = record.key.decode()
        receipt = await _send(request, record)
        return _taken(receipt, alert_id=alert_id)


def _add_silences(app: FastAPI, orders: Orders) -> None:
    @app.post("/api/silences", status_code=202, tags=["Alerts"], openapi_extra=_takes(SilenceOrder), responses=_ORDER)
    async def silence(request: Request) -> Response:
        """Tell nobody of some alerts for a time; they are recorded as ever."""
        order = await _read(request, SilenceOrder)
        here = visit(request)
        here.patient_id, here.unit = order.patient, order.unit
        await asyncio.to_thread(_check_reach, here, order)
        made, record = await asyncio.to_thread(
            orders.silence,
            here.by(order.by),
            order.reason,
            order.ends(datetime.now(UTC)),
            order.patient,
            order.rule,
            order.unit,
            long=order.long,
        )
        receipt = await _send(request, record)
        return _taken(receipt, silence=_described(made))

    @app.delete(
        "/api/silences/{silence_id}",
        status_code=202,
        tags=["Alerts"],
        responses={**_ORDER, 404: {"description": "No silence of this id is in force"}},
    )
    async def unsilence(
        request: Request,
        silence_id: str,
        by: Annotated[_Text, Query(description="Who ends it.")],
        reason: Annotated[_Text | None, Query(description="Why before its time.")] = None,
    ) -> Response:
        """End a silence before its time: what it muted is told again."""
        here = visit(request)
        within = partial(_within, here)
        record = await asyncio.to_thread(orders.unsilence, silence_id, here.by(by), reason, within)
        receipt = await _send(request, record)
        return _taken(receipt, silence_id=silence_id)


def _reaches(here: Visit, patient: str | None, unit: str | None) -> bool:
    """Whether a silence stays within the caller's units. One of a rule alone never does."""
    if here.caller.units is None or unit in here.caller.units:
        return True
    return patient is not None and here.sees(patient)


def _within(here: Visit, one: Silence) -> bool:
    return _reaches(here, one.patient_id, one.location_unit)


def _concerns(here: Visit, one: Silence) -> bool:
    """Whether a silence is shown to the caller: one of a rule alone mutes every unit, the caller's among them."""
    everywhere = one.patient_id is None and one.location_unit is None
    return everywhere or _within(here, one)


def _check_reach(here: Visit, order: SilenceOrder) -> None:
    """Raise Problem for a silence that would reach beyond the caller's units."""
    if not _reaches(here, order.patient, order.unit):
        units = ", ".join(sorted(here.caller.units or ()))
        raise Problem(403, f"a silence of this key must name a patient in its care units, or one of them: {units}")


def _takes(body: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": body.model_json_schema()}}}}


async def _read(request: Request, kind: type[_Body]) -> _Body:
    # A web page of another origin may post plain text unasked, but JSON only after asking, which is refused.
    content, _ = await read_body(request, _MAX_BODY_BYTES, (_JSON,))
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        errors = [
            {"pointer": "/".join(str(part) for part in one["loc"]), "detail": one["msg"]} for one in error.errors()
        ]
        raise Problem(422, "what is ordered cannot be", more={"errors": errors}) from error


async def _send(request: Request, record: Record) -> Receipt:
    try:
        (receipt,) = await services(request).sender.send([record])
    except BrokerUnavailableError as error:
        raise unavailable(error) from error
    return receipt


def _taken(receipt: Receipt, **more: Any) -> Json:
    place = {"partition": receipt.partition, "offset": receipt.offset}
    return Json({"command_id": receipt.message_id, **place, **more}, 202)


def _described(one: Silence) -> dict[str, Any]:
    return {
        "silence_id": one.command_id,
        "by": one.by,
        "reason": one.note,
        "from": instant(one.at),
        "until": instant(one.until),
        "patient": one.patient_id,
        "rule": one.rule_id,
        "unit": one.location_unit,
    }
