"""Who calls: what a key, a token or the machine's own user may do and see."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.scopes import Free, Scope


class Kind(StrEnum):
    """How a caller is known."""

    LOCAL = "local"
    KEY = "key"
    USER = "user"
    NOBODY = "nobody"


@dataclass(frozen=True)
class Caller:
    """``units`` are the care units whose patients are seen; None: all. ``key_id`` is that of a key."""

    kind: Kind
    name: str
    scopes: frozenset[Scope]
    units: frozenset[str] | None = None
    key_id: str | None = None
    expires_at: datetime | None = None

    def may(self, needs: Scope | Free) -> bool:
        """Whether a route that needs this is theirs."""
        return isinstance(needs, Free) or needs in self.scopes or Scope.ADMIN in self.scopes

    @property
    def sees_pseudonyms(self) -> bool:
        """Whether cohort tables are shown to them under pseudonyms."""
        return Scope.ADMIN not in self.scopes or self.units is not None


LOCAL = Caller(Kind.LOCAL, "local", frozenset(Scope))
"""Whoever calls from this machine while no key has been made."""
NOBODY = Caller(Kind.NOBODY, "nobody", frozenset())
"""Whoever has neither a key nor a token that counts."""
