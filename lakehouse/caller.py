"""Who asks for patients' data: what a key, a token or the machine's own user may do and see."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Scope(StrEnum):
    """What a key or a user may do. ``admin`` may do what the others may, and sees cohort tables as they are."""

    INGEST = "ingest"
    READ = "read"
    ALERT = "alert"
    RESEARCH = "research"
    ADMIN = "admin"


class Kind(StrEnum):
    """How a caller is known."""

    LOCAL = "local"
    KEY = "key"
    USER = "user"
    LINK = "link"
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

    def may(self, scope: Scope) -> bool:
        """Whether what needs this scope is theirs to do."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, unit: str | None) -> bool:
        """Whether they see the patients of a care unit; who is in none is seen only by who sees all."""
        return self.units is None or unit in self.units

    @property
    def sees_pseudonyms(self) -> bool:
        """Whether cohort tables are shown to them under pseudonyms."""
        return Scope.ADMIN not in self.scopes or self.units is not None


LOCAL = Caller(Kind.LOCAL, "local", frozenset(Scope))
"""Whoever calls from this machine while no key has been made."""
NOBODY = Caller(Kind.NOBODY, "nobody", frozenset())
"""Whoever has neither a key nor a token that counts."""
