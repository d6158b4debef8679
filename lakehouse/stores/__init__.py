"""Kinds of storage beside a disk: what each of Spark, deltalake and upath is told of it, and how it is tried.

A kind is a module that is a Store; lakehouse/storage.py is what everybody else asks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from upath import UPath

_DECORATION = re.compile(r"\x1b\[[0-9;]*m|\u21b3")
"""Colours and arrows of deltalake's errors."""
MARK = b"written by ward storage"
"""What a trial writes."""


class StorageError(RuntimeError):
    """Storage that is not there, not ours to use, or not of a kind that is known; the text says what to do."""


@dataclass(frozen=True)
class Trial:
    """What a store did when it was tried: ``exclusive`` says whether it refuses to write what is there already.

    ``encryption`` is how it keeps what it was given, by its own word (``AES256``, ``aws:kms``); None where it has none.
    ``elsewhere`` is who knows that where the store itself does not say.
    """

    exclusive: bool
    encryption: str | None
    elsewhere: str | None = None


def plain(error: Exception) -> str:
    """The text of an error in one line."""
    return " ".join(_DECORATION.sub(" ", str(error)).split())


class Store(Protocol):
    """What a kind of storage has to say. ``environment`` is what its own tools read, too."""

    @property
    def JARS(self) -> tuple[str, str] | None:  # noqa: N802 - a constant of the module
        """Jars that Spark needs and does not bring along: a pattern of their names, and what they are for."""

    def opened(self, authority: str, folder: str, /) -> "UPath":
        """A folder below a bucket or a name node. Raises StorageError where the library for it is missing."""

    def spark_conf(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What a Spark session has to be told."""

    def delta_options(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What deltalake has to be told."""

    def lineage_name(self, place: "UPath") -> tuple[str, str]:
        """Namespace and name of a folder, by OpenLineage's rules of naming."""

    def trouble(self, error: Exception) -> str | None:
        """The text of an error that comes from such a store; None for any other."""

    def tried(self, place: "UPath") -> Trial:
        """Write, list, read and remove a file below the place. Raises StorageError where one of it cannot be done."""
