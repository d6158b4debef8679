"""What the settings say of an OpenID Connect provider, for the gateway and for the dashboard."""

import json
from dataclasses import replace
from secrets import token_urlsafe
from typing import TYPE_CHECKING

from lakehouse import secret_file
from lakehouse.caller import Scope
from lakehouse.claims import Provider
from lakehouse.datadir import DataDir
from wardhouse.errors import Failure
from wardhouse.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def provider(settings: Settings) -> Provider | None:
    """The provider whose tokens the gateway takes; None: it takes none. Raises Failure."""
    if settings.oidc_issuer is None:
        return None
    if settings.oidc_audience is None:
        raise Failure("WARD_OIDC_ISSUER needs WARD_OIDC_AUDIENCE: tokens for others must not count here")
    made = Provider(
        settings.oidc_issuer, settings.oidc_audience, settings.oidc_roles_claim, units_claim=settings.oidc_units_claim
    )
    if settings.oidc_roles is None:
        return made
    try:
        roles = {role: frozenset(map(Scope, scopes)) for role, scopes in settings.oidc_roles.items()}
    except ValueError as error:
        raise Failure(f"WARD_OIDC_ROLES: {error}; scopes are {', '.join(Scope)}") from error
    return Provider(made.issuer, made.audience, made.roles_claim, roles, made.units_claim)


def of_pages(settings: Settings) -> Provider | None:
    """The same for who signs in at the dashboard; None: nobody does.

    What signs in there is a token for the dashboard, which seldom has scopes: without roles of ours it opens all pages.
    """
    if settings.oidc_client_id is None:
        return None
    made = provider(settings.model_copy(update={"oidc_audience": settings.oidc_client_id}))
    return replace(made, roles=None) if made is not None and settings.oidc_roles is None else made


def streamlit_secrets(settings: Settings, data: DataDir, dashboard: str) -> "Path | None":
    """The file of secrets by which Streamlit signs people in, written anew; None: nobody signs in. Raises Failure.

    The secret of its cookies is made anew at each start: whoever was signed in signs in again.
    """
    if settings.oidc_client_id is None:
        return None
    if settings.oidc_issuer is None or settings.oidc_client_secret_file is None:
        raise Failure("WARD_OIDC_CLIENT_ID needs WARD_OIDC_ISSUER and WARD_OIDC_CLIENT_SECRET_FILE")
    try:
        secret = settings.oidc_client_secret_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Failure(f"{settings.oidc_client_secret_file} cannot be read: {error.strerror}") from error
    told = {
        "redirect_uri": f"{(settings.dashboard_url or dashboard).rstrip('/')}/oauth2callback",
        "cookie_secret": token_urlsafe(32),
        "client_id": settings.oidc_client_id,
        "client_secret": secret,
        "server_metadata_url": f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
    }
    path = data.access / "streamlit-secrets.toml"
    # A text of JSON is one of TOML.
    lines = ["[auth]", *(f"{name} = {json.dumps(value)}" for name, value in told.items())]
    secret_file.write(path, ("\n".join(lines) + "\n").encode())
    return path
