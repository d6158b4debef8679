"""The media types of answers in the interface's description: the framework calls every answer application/json."""

from typing import Any

from fastapi import FastAPI

from gateway import fhir_error, problem

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_OUTCOME = {"type": "object", "required": ["resourceType"], "properties": {"resourceType": {"type": "string"}}}


def install(app: FastAPI) -> None:
    """Have the application describe errors as problems, and whatever FHIR answers as FHIR."""
    framework = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            for path, operations in framework()["paths"].items():
                for operation in operations.values():
                    _mend(operation["responses"], is_fhir=(path + "/").startswith("/fhir/"))
        return framework()

    app.openapi = described  # type: ignore[method-assign]


def _mend(responses: dict[str, Any], *, is_fhir: bool) -> None:
    for status, response in responses.items():
        if is_fhir:
            response["content"] = {fhir_error.MEDIA_TYPE: {"schema": _OUTCOME}}
        elif int(status) >= 400:
            response["content"] = {problem.MEDIA_TYPE: {"schema": _PROBLEM}}
