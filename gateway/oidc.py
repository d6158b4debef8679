"""Bearer tokens of an OpenID Connect provider, checked by PyJWT; their claims become scopes and care units."""

import asyncio
import json
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import jwt

from gateway.caller import Caller, Kind
from gateway.problem import RETRY_AFTER_S, Problem
from gateway.scopes import Scope

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Signatures by a private key alone: none, and those by a shared secret, would let anybody sign with the public key."""

EVERY_UNIT = "*"
"""What a claim of units says for all of them."""

_ANSWER_S = 3.0


class ProviderError(ConnectionError):
    """The provider does not tell its keys."""


@dataclass(frozen=True)
class Provider:
    """An issuer, and how its claims are read.

    ``roles`` are scopes by what the claim ``roles_claim`` may hold; dots in a claim's name lead into objects. Where
    ``units_claim`` is named, a token without it sees no patient. ``jwks_url`` is asked of the issuer where it is None.
    """

    issuer: str
    audience: str
    roles_claim: str = "scope"
    roles: Mapping[str, frozenset[Scope]] = field(
        default_factory=lambda: {scope: frozenset({scope}) for scope in Scope}
    )
    units_claim: str | None = None
    name_claims: tuple[str, ...] = ("preferred_username", "email", "sub")
    jwks_url: str | None = None


class Tokens:
    """Checks tokens of one provider, whose keys are kept for five minutes."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def caller(self, token: str) -> Caller | None:
        """Whose token it is, where it holds. Raises Problem while the provider does not tell its keys."""
        try:
            claims = await asyncio.to_thread(self._claims, token)
        except (jwt.PyJWKClientConnectionError, ProviderError) as error:
            detail = "the provider of tokens does not tell its keys: nobody can be let in by a token"
            raise Problem(503, detail, {"Retry-After": str(RETRY_AFTER_S)}) from error
        except (jwt.PyJWTError, ValueError):
            return None
        return caller_of(claims, self._provider)

    def _claims(self, token: str) -> Mapping[str, Any]:
        # Of the provider's keys the one is taken that the token names; what it is for is ours to say.
        key = self._keys.get_signing_key_from_jwt(token)
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=ALGORITHMS,
            issuer=self._provider.issuer,
            audience=self._provider.audience,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return claims

    @cached_property
    def _keys(self) -> jwt.PyJWKClient:
        return jwt.PyJWKClient(self._provider.jwks_url or _discovered(self._provider.issuer), timeout=_ANSWER_S)


def _discovered(issuer: str) -> str:
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_S) as answer:  # noqa: S310 - the issuer of the settings
            return str(json.load(answer)["jwks_uri"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProviderError(f"{url} does not say where the keys are: {error}") from error


def caller_of(claims: Mapping[str, Any], provider: Provider) -> Caller:
    """Who a checked token speaks for, and what they may do."""
    given = _texts(_claim(claims, provider.roles_claim))
    scopes = frozenset(scope for role in given for scope in provider.roles.get(role, ()))
    name = next((str(claims[one]) for one in provider.name_claims if claims.get(one)), str(claims["sub"]))
    ends = datetime.fromtimestamp(int(claims["exp"]), UTC)
    return Caller(Kind.USER, name, scopes, _units(claims, provider), expires_at=ends)


def _units(claims: Mapping[str, Any], provider: Provider) -> frozenset[str] | None:
    if provider.units_claim is None:
        return None
    found = _claim(claims, provider.units_claim)
    # A unit's name may hold blanks: one text is one unit.
    units = frozenset([found] if isinstance(found, str) else _texts(found))
    return None if EVERY_UNIT in units else units


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return value.split()
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
