"""Requests that schemathesis makes of the gateway's own description: each answer is one that the description names.

``WARD_FUZZ_EXAMPLES=1000 pytest tests/unit/gateway`` makes as many of every operation, and of all that hypothesis makes
for the parsers.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    status_code_conformance,
)

from gateway.app import create_app
from gateway.spool import Spool
from lakehouse.datadir import DataDir
from lakehouse.tables import ALERT, ALERT_EVENT, EARLY_WARNING_SCORE, ENCOUNTER, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXAMPLES = int(os.environ.get("WARD_FUZZ_EXAMPLES", "5"))
CHECKS: list[CheckFunction] = [status_code_conformance, content_type_conformance]


@schemathesis.serializer("application/x-ndjson")
def as_lines(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A gateway without a broker, whose spool takes what is sent, over tables without rows."""
    data = DataDir(tmp_path_factory.mktemp("openapi") / "ward")
    for table in (VITAL_SIGN_MINUTE, EARLY_WARNING_SCORE, ALERT, ALERT_EVENT, ENCOUNTER):
        append(data, table)
    spool = Spool(data.root / "spool", 1 << 30)
    app = create_app(data, bootstrap_servers="127.0.0.1:1", clock=lambda: NOON, spool=spool, answer_within_s=0.2)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True) as running:
        yield running


def operations() -> list[Any]:
    """Every operation of the description, but for the stream, which has no end."""
    described = create_app(DataDir(Path("nowhere")), bootstrap_servers="", clock=lambda: NOON).openapi()
    found = schemathesis.openapi.from_dict(described).exclude(path="/api/live").get_all_operations()
    return [operation.ok() for operation in found]


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
def test_every_answer_is_one_that_the_description_names(operation: Any, client: TestClient) -> None:
    @given(operation.as_strategy())
    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    def answered(case: Any) -> None:
        request = case.as_transport_kwargs(base_url="http://127.0.0.1")
        answer = client.request(**{name: value for name, value in request.items() if value and name != "cookies"})
        checks = CHECKS if answer.status_code == 503 else [*CHECKS, not_a_server_error]
        case.validate_response(answer, checks=checks)

    answered()
