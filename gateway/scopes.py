"""What each route of the gateway needs of who calls it: the one place that says so.

An application with a route that is not named here does not start.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from starlette.routing import BaseRoute, Match, Mount, WebSocketRoute
from starlette.types import Scope as Connection

from gateway.fhir import TYPES
from lakehouse.caller import Scope


class Free(StrEnum):
    """What needs no scope."""

    EVERYBODY = "everybody"
    ANY_KEY = "any key"


AUDITED = frozenset({Scope.READ, Scope.ALERT, Scope.RESEARCH})
"""Scopes whose use is recorded; of what others do only refusals are."""


@dataclass(frozen=True)
class Rule:
    """What a route needs, and what the audit calls its use."""

    needs: Scope | Free
    action: str

    @property
    def audited(self) -> bool:
        """Whether each use is recorded."""
        return self.needs in AUDITED


class UndeclaredRouteError(LookupError):
    """A route is not declared; the text names it and the place to do so."""


_DOCUMENTATION = Rule(Free.ANY_KEY, "read documentation")
_SEND = Rule(Scope.INGEST, "send FHIR")

UNKNOWN = Rule(Free.ANY_KEY, "ask for an unknown address")
"""For an address that is no route's: without a key nobody learns which ones there are."""

RULES: Mapping[str, Rule] = {
    "GET /healthz": Rule(Free.EVERYBODY, "ask for health"),
    "GET /readyz": Rule(Free.EVERYBODY, "ask for readiness"),
    "GET /metrics": Rule(Free.ANY_KEY, "read metrics"),
    **{
        f"GET {path}": _DOCUMENTATION
        for path in ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/static-offline-docs")
    },
    "POST /api/iot": Rule(Scope.INGEST, "send device messages"),
    "POST /fhir": _SEND,
    **{f"POST /fhir/{resource_type}": _SEND for resource_type in TYPES},
    **{f"PUT /fhir/{resource_type}/{{resource_id}}": _SEND for resource_type in TYPES},
    "GET /fhir/metadata": Rule(Free.ANY_KEY, "read FHIR capabilities"),
    "GET /api/patients": Rule(Scope.READ, "list patients"),
    "GET /api/patients/{patient_id:path}/encounters": Rule(Scope.READ, "read encounters"),
    "GET /api/patients/{patient_id:path}/vitals/latest": Rule(Scope.READ, "read latest vitals"),
    "GET /api/vitals/latest": Rule(Scope.READ, "list latest vitals"),
    "GET /api/patients/{patient_id:path}/vitals/series": Rule(Scope.READ, "read vitals over time"),
    "GET /api/patients/{patient_id:path}/scores": Rule(Scope.READ, "read scores"),
    "GET /api/scores": Rule(Scope.READ, "list scores"),
    "GET /api/analytics": Rule(Scope.READ, "read analytics"),
    "GET /api/alerts": Rule(Scope.READ, "list alerts"),
    "GET /api/alerts/{alert_id}": Rule(Scope.READ, "read an alert"),
    "GET /api/local/alerts": Rule(Scope.READ, "list local alerts"),
    "GET /api/silences": Rule(Scope.READ, "list silences"),
    "GET /api/live": Rule(Scope.READ, "listen to live events"),
    "WS /api/live/ws": Rule(Scope.READ, "listen to live events"),
    "POST /api/alerts/{alert_id}/acknowledge": Rule(Scope.ALERT, "acknowledge an alert"),
    "POST /api/silences": Rule(Scope.ALERT, "silence alerts"),
    "DELETE /api/silences/{silence_id}": Rule(Scope.ALERT, "end a silence"),
    "GET /api/cohorts": Rule(Scope.RESEARCH, "list cohorts"),
    "GET /api/cohorts/{name}": Rule(Scope.RESEARCH, "read a cohort"),
}


def names(route: BaseRoute) -> list[str]:
    """A route as it stands in RULES, once for each of its methods."""
    path = getattr(route, "path", "")
    if isinstance(route, WebSocketRoute):
        return [f"WS {path}"]
    methods = {"GET"} if isinstance(route, Mount) else set(getattr(route, "methods", None) or ())
    return [f"{method} {path}" for method in sorted(methods - {"HEAD"})]


def check(routes: Iterable[BaseRoute], rules: Mapping[str, Rule] = RULES) -> None:
    """See that every route is declared. Raises UndeclaredRouteError."""
    if unknown := [name for route in routes for name in names(route) if name not in rules]:
        raise UndeclaredRouteError(f"gateway/scopes.py does not say what {', '.join(unknown)} needs")


def rule_of(connection: Connection, routes: Iterable[BaseRoute]) -> tuple[Rule, Mapping[str, str]]:
    """The rule of the route that a request or a WebSocket is for, and the parts of its path."""
    method = {"HEAD": "GET"}.get(connection.get("method", ""), connection.get("method", "WS"))
    for route in routes:
        match, found = route.matches(connection)
        if match is Match.FULL:
            return RULES[f"{method} {getattr(route, 'path', '')}"], found.get("path_params", {})
    return UNKNOWN, {}
