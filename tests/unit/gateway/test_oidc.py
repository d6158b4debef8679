"""Tokens of a provider that the test is."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.testclient import TestClient

from gateway import keys
from gateway.app import create_app
from gateway.guard import Access
from gateway.keys import Keys
from gateway.oidc import Provider, Tokens, caller_of
from lakehouse.caller import Kind, Scope
from lakehouse.datadir import DataDir
from tests.fixtures.issuer import Issuer, issuing

AUDIENCE = "wardhouse"
ANOTHER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def provided() -> Iterator[Issuer]:
    with issuing(AUDIENCE) as issuer:
        yield issuer


@pytest.fixture
def issuer(provided: Issuer) -> str:
    return provided.url


Signed = Callable[..., dict[str, str]]


@pytest.fixture
def signed(provided: Issuer) -> Signed:
    """Call it with changed claims for the header of a token; None leaves a claim out."""

    def make(**changes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {provided.token(AUDIENCE, **{'scope': 'openid read', **changes})}"}

    return make


def client_of(data: DataDir, provider: Provider) -> TestClient:
    def clock() -> datetime:
        return datetime.now(UTC)

    access = Access(Keys(keys.file_of(data), clock), Tokens(provider))
    app = create_app(data, bootstrap_servers="127.0.0.1:1", clock=clock, access=access, answer_within_s=0.05)
    return TestClient(app, base_url="http://127.0.0.1")


def test_a_token_opens_what_its_claims_say_and_one_that_is_not_whole_nothing(
    data: DataDir, issuer: str, signed: Signed
) -> None:
    refused = {
        "none": {},
        "expired": signed(exp=time.time() - 1),
        "no end": signed(exp=None),
        "another audience": signed(aud="another"),
        "another issuer": signed(iss="http://127.0.0.1:1"),
        "another key": signed(key=ANOTHER),
        "unknown key": signed(kid="two"),
        "a shared secret": signed(key="x" * 32, algorithm="HS256"),
        "not signed": signed(algorithm="none"),
        "not a token": {"Authorization": "Bearer a.b.c"},
    }
    with client_of(data, Provider(issuer, AUDIENCE)) as client:
        assert client.get("/api/vitals/latest", headers=signed()).status_code == 200
        assert client.get("/api/vitals/latest", headers=signed(scope="openid")).status_code == 403
        assert client.post("/api/iot", json={}, headers=signed()).status_code == 403
        found = {name: client.get("/api/vitals/latest", headers=one).status_code for name, one in refused.items()}
    assert found == dict.fromkeys(refused, 401)


def test_while_the_provider_is_away_nobody_is_let_in_by_a_token_and_keys_go_on(data: DataDir, signed: Signed) -> None:
    _, token = keys.create(keys.file_of(data), "one", frozenset({Scope.READ}), datetime.now(UTC))
    with client_of(data, Provider("http://127.0.0.1:1", AUDIENCE)) as client:
        assert client.get("/api/vitals/latest", headers=signed()).status_code == 503
        assert client.get("/api/vitals/latest", headers={"X-API-Key": token}).status_code == 200


def test_claims_become_name_scopes_and_units_as_the_settings_say() -> None:
    roles = {"nurse": frozenset({Scope.READ, Scope.ALERT})}
    provider = Provider("i", AUDIENCE, "realm.roles", roles, "units")
    claims = {"sub": "u1", "exp": 1772366400, "preferred_username": "ada", "realm": {"roles": ["nurse", "other"]}}

    units = [
        caller_of({**claims, "units": told}, provider).units for told in (["ICU", "CCU"], "Cardiac ICU", "*", [], 7)
    ]
    found = caller_of(claims, provider)

    assert units == [{"ICU", "CCU"}, {"Cardiac ICU"}, None, frozenset(), frozenset()]
    assert (found.kind, found.name, found.scopes, found.units) == (Kind.USER, "ada", roles["nurse"], frozenset())
    assert found.expires_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert caller_of(claims, replace(provider, units_claim=None)).units is None
    assert caller_of(claims, replace(provider, roles=None)).scopes == frozenset(Scope)
