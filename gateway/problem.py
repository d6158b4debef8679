"""Problem details for HTTP errors (RFC 9457): what every refusal of the gateway looks like, but for FHIR's.

Below ``/fhir`` an error is an OperationOutcome, as FHIR clients expect.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway import fhir_error
from gateway.fhir_error import FhirError, Issue
from lakehouse.reader import TableMissingError

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_S = 5
"""What a caller is asked to wait when the broker is away: an embedded broker is back within that time."""

_TABLE_AFTER_S = 60

_ISSUE_CODES = {404: "not-found", 405: "not-supported", 413: "too-long", 415: "not-supported", 503: "transient"}


class Problem(Exception):  # noqa: N818 - the term of RFC 9457
    """A refusal. ``detail`` says what to mend; ``more`` are further members of the body, such as single errors."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    def response(self) -> Response:
        """The problem as an answer; its type is ``about:blank``, so the title is the status in words."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return Response(orjson.dumps(body), self.status, self.headers, MEDIA_TYPE)


def unavailable(error: Exception) -> Problem:
    """What a caller is told when records are not safe: it is to send the same again."""
    return Problem(503, f"{error}; send the same again", {"Retry-After": str(RETRY_AFTER_S)})


def install(app: FastAPI) -> None:
    """Make every error of the application a problem, the framework's own among them."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(TableMissingError, _no_table)
    app.add_exception_handler(FhirError, _fhir_error)


async def _fhir_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, FhirError)  # noqa: S101 - registered for this class
    return outcome(error.status, *error.issues)


def outcome(status: int, *issues: Issue, headers: Mapping[str, str] | None = None) -> Response:
    """An error as FHIR has it."""
    return Response(orjson.dumps(fhir_error.outcome(issues)), status, dict(headers or {}), fhir_error.MEDIA_TYPE)


def answer(request: Request, error: Problem) -> Response:
    """A refusal as the request's address has it."""
    if not (request.url.path + "/").startswith("/fhir/"):
        return error.response()
    issue = Issue(_ISSUE_CODES.get(error.status, "processing"), error.detail)
    return outcome(error.status, issue, headers=error.headers)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this class
    return answer(request, error)


async def _invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    errors = [{"pointer": "/".join(str(part) for part in e["loc"]), "detail": e["msg"]} for e in error.errors()]
    return Problem(422, "the request does not fit this address", more={"errors": errors}).response()


async def _no_table(request: Request, error: Exception) -> Response:
    assert isinstance(error, TableMissingError)  # noqa: S101 - registered for this class
    # Its text names folders and commands, which are for who runs the gateway.
    detail = f"{error.table.full_name} has not been made yet"
    return answer(request, Problem(503, detail, {"Retry-After": str(_TABLE_AFTER_S)}))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return answer(request, Problem(error.status_code, detail, error.headers))
