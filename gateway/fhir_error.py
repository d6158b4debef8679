"""What is wrong with a FHIR resource, in FHIR's own words (OperationOutcome)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MEDIA_TYPE = "application/fhir+json"

Resource = dict[str, Any]


@dataclass(frozen=True)
class Issue:
    """One fault: a code of FHIR's value set issue-type, what to mend, and the element it is about."""

    code: str
    diagnostics: str
    expression: str | None = None


class FhirError(Exception):
    """A resource that is not taken. ``status`` is 400 for what is no FHIR resource, 422 for what we cannot take."""

    def __init__(self, status: int, *issues: Issue) -> None:
        super().__init__("; ".join(issue.diagnostics for issue in issues))
        self.status = status
        self.issues = issues

    def inside(self, path: str) -> "FhirError":
        """The same error of a resource that is part of another."""
        return FhirError(
            self.status, *(Issue(i.code, i.diagnostics, f"{path}.{i.expression or 'resource'}") for i in self.issues)
        )


def refused(code: str, diagnostics: str, expression: str | None = None) -> FhirError:
    """A resource that is FHIR, but cannot be taken."""
    return FhirError(422, Issue(code, diagnostics, expression))


def outcome(issues: Iterable[Issue], severity: str = "error") -> Resource:
    """An OperationOutcome."""
    return {"resourceType": "OperationOutcome", "issue": [_issue(issue, severity) for issue in issues]}


def _issue(issue: Issue, severity: str) -> dict[str, Any]:
    described: dict[str, Any] = {"severity": severity, "code": issue.code, "diagnostics": issue.diagnostics}
    return described | {"expression": [issue.expression]} if issue.expression else described
