"""Bearer tokens of an OpenID Connect provider, checked by PyJWT."""

import asyncio
import json
import urllib.request
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jwt

from gateway.problem import RETRY_AFTER_S, Problem
from lakehouse.caller import Caller
from lakehouse.claims import Provider, caller_of

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Signatures by a private key alone: none, and those by a shared secret, would let anybody sign with the public key."""

_ANSWER_S = 3.0


class ProviderError(ConnectionError):
    """The provider does not tell its keys."""


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
