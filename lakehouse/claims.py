"""What a provider of OpenID Connect says of a person: claims become a name, scopes and care units."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lakehouse.caller import Caller, Kind, Scope

EVERY_UNIT = "*"
"""What a claim of units says for all of them."""


@dataclass(frozen=True)
class Provider:
    """An issuer, and how its claims are read.

    ``roles`` are scopes by what the claim ``roles_claim`` may hold, or None: everybody may do everything. Dots in the
    name of a claim lead into objects. Where ``units_claim`` is named, a token without it sees no patient. ``jwks_url``
    is asked of the issuer where it is None.
    """

    issuer: str
    audience: str
    roles_claim: str = "scope"
    roles: Mapping[str, frozenset[Scope]] | None = field(
        default_factory=lambda: {scope.value: frozenset({scope}) for scope in Scope}
    )
    units_claim: str | None = None
    name_claims: tuple[str, ...] = ("preferred_username", "email", "sub")
    jwks_url: str | None = None


def caller_of(claims: Mapping[str, Any], provider: Provider) -> Caller:
    """Who a checked token speaks for, and what they may do."""
    name = next((str(claims[one]) for one in provider.name_claims if claims.get(one)), str(claims["sub"]))
    ends = datetime.fromtimestamp(int(claims["exp"]), UTC)
    return Caller(Kind.USER, name, _scopes(claims, provider), _units(claims, provider), expires_at=ends)


def _scopes(claims: Mapping[str, Any], provider: Provider) -> frozenset[Scope]:
    if provider.roles is None:
        return frozenset(Scope)
    given = _texts(_claim(claims, provider.roles_claim))
    return frozenset(scope for role in given for scope in provider.roles.get(role, ()))


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
