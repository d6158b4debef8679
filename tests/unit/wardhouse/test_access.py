"""``ward keys`` and ``ward audit``, and what the settings say of a provider."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lakehouse.caller import Scope
from lakehouse.datadir import DataDir
from lakehouse.tables import AUDIT_EVENT
from tests.fixtures.delta import append
from wardhouse import oidc
from wardhouse.cli import app
from wardhouse.errors import Failure
from wardhouse.settings import Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ward(data: DataDir, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*words, "--data-dir", str(data.root)])
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_key_is_made_shown_without_its_text_and_revoked(data: DataDir) -> None:
    token = ward(data, "keys", "create", "screen", "--scope", "read", "--unit", "ICU", "--expires", "8h").strip()
    (key,) = map(json.loads, ward(data, "keys", "list", "--json").splitlines())
    revoked = ward(data, "keys", "revoke", "screen")
    listed = ward(data, "keys", "list")

    assert (key["name"], key["state"], key["scopes"], key["units"]) == ("screen", "in force", ["read"], ["ICU"])
    assert revoked == f"key {key['key_id']} of screen is revoked\n"
    assert listed.split()[1:3] == ["revoked", "screen"]
    assert token not in listed + json.dumps(key)
    ward(data, "keys", "revoke", "screen", code=1)


def test_the_audit_is_asked_by_patient_actor_and_time(data: DataDir) -> None:
    def event(name: str, **changes: Any) -> dict[str, Any]:
        usual = {"application": "gateway", "actor_kind": "key", "actor": "screen", "action": "read scores"}
        return {**usual, "event_id": name, "outcome": "done", "patient_id": "a/1", "asked_at": NOON, **changes}

    later = NOON.replace(hour=13)
    append(data, AUDIT_EVENT, event("1"), event("2", actor="other", asked_at=later), event("3", patient_id=None))

    def found(*words: str) -> list[str]:
        return [json.loads(line)["event_id"] for line in ward(data, "audit", "--json", *words).splitlines()]

    assert found() == ["1", "3", "2"]
    assert found("--patient", "a/1") == ["1", "2"]
    assert found("--actor", "screen") == ["1", "3"]
    assert found("--since", "2026-03-01T12:30:00Z") == ["2"]
    line = ward(data, "audit", "--actor", "other").split()
    assert line == ["2026-03-01", "13:00:00Z", "done", "key", "other", "a/1", "gateway:", "read", "scores"]


def test_a_provider_is_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert oidc.provider(Settings()) is None
    monkeypatch.setenv("WARD_OIDC_ISSUER", "https://id.example")
    with pytest.raises(Failure, match="WARD_OIDC_AUDIENCE"):
        oidc.provider(Settings())
    monkeypatch.setenv("WARD_OIDC_AUDIENCE", "ward")
    monkeypatch.setenv("WARD_OIDC_ROLES", '{"nurse": ["read", "alert"]}')
    found = oidc.provider(Settings())
    assert found is not None
    assert found.roles == {"nurse": {Scope.READ, Scope.ALERT}}
    monkeypatch.setenv("WARD_OIDC_ROLES", '{"nurse": ["reed"]}')
    with pytest.raises(Failure, match="'reed' is not a valid Scope; scopes are ingest, read"):
        oidc.provider(Settings())


def test_streamlit_is_told_its_provider_by_a_file_of_its_owner(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert oidc.streamlit_secrets(Settings(), data, "http://127.0.0.1:8501") is None
    (tmp_path / "secret").write_text('a "quoted" secret\n')
    monkeypatch.setenv("WARD_OIDC_ISSUER", "https://id.example")
    monkeypatch.setenv("WARD_OIDC_CLIENT_ID", "ward")
    with pytest.raises(Failure, match="WARD_OIDC_CLIENT_SECRET_FILE"):
        oidc.streamlit_secrets(Settings(), data, "http://127.0.0.1:8501")
    monkeypatch.setenv("WARD_OIDC_CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("WARD_DASHBOARD_URL", "https://ward.example/")

    path = oidc.streamlit_secrets(Settings(), data, "http://127.0.0.1:8501")

    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    told = tomllib.loads(path.read_text())["auth"]
    assert len(told.pop("cookie_secret")) == 43
    assert told == {
        "redirect_uri": "https://ward.example/oauth2callback",
        "client_id": "ward",
        "client_secret": 'a "quoted" secret',
        "server_metadata_url": "https://id.example/.well-known/openid-configuration",
    }
