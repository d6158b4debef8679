"""Where tables and checkpoints are: in the data dir, or in storage that the data dir names.

A data dir whose file ``storage`` names a URI has its tables and checkpoints there. It is a fact of the data dir and no
option of a command: whoever opens it, finds the same tables. Processes, logs, the spool and the embedded broker stay.

Java and Python are told where the store is, and who asks, by what the store's own tools read from the environment
(lakehouse/stores has each kind): no secret of a store is a setting of ours.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lakehouse.stores import StorageError, Store, Trial, hdfs, s3

if TYPE_CHECKING:
    from upath import UPath

    Place = Path | UPath
    """A folder or file, of this machine or of a store."""

_STORES: Mapping[str, Store] = {"s3": s3, "s3a": s3, "hdfs": hdfs}
_REMOTE = tuple(f"{scheme}://" for scheme in _STORES)


def named_by(root: Path) -> "Place":
    """The parent of a data dir's tables and checkpoints. Raises StorageError for a damaged file."""
    try:
        uri = file_of(root).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return root
    return at(uri)


def file_of(root: Path) -> Path:
    """The file of a data dir that names its storage."""
    return root / "storage"


def at(uri: str) -> "UPath":
    """The folder of this URI. Raises StorageError where it is not one that can hold tables."""
    parts = urlsplit(uri)
    store = _STORES.get(parts.scheme)
    if store is None or not parts.netloc or parts.query or parts.fragment:
        raise StorageError(f"{uri!r} names no storage: give s3a://BUCKET/FOLDER or hdfs://NAMENODE:PORT/FOLDER")
    return store.opened(parts.netloc, parts.path.rstrip("/"))


def of_uri(uri: str) -> "Place":
    """A file of a table, as deltalake names it."""
    return at(uri) if uri.startswith(_REMOTE) else Path(uri.removeprefix("file://"))


def is_local(place: "Place") -> bool:
    """Whether it is a folder of this machine."""
    return isinstance(place, Path)


def jars(place: "Place") -> tuple[str, str] | None:
    """Jars that Spark needs for it and does not bring along: a pattern of their names, and what they are for."""
    return None if isinstance(place, Path) else _STORES[place.protocol].JARS


def lineage_name(place: "UPath") -> tuple[str, str]:
    """Namespace and name of a folder of a store, by OpenLineage's rules of naming."""
    return _STORES[place.protocol].lineage_name(place)


def copy(source: "Place", target: Path) -> None:
    """Bring a file or a folder, with all that is in it, to this machine."""
    if isinstance(source, Path):
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    else:
        source.fs.get(source.path, str(target), recursive=source.is_dir())


def spark_conf(place: "Place", environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a Spark session has to be told to read and write there."""
    return {} if isinstance(place, Path) else _STORES[place.protocol].spark_conf(environment)


def delta_options(place: "Place", environment: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """What deltalake has to be told."""
    return None if isinstance(place, Path) else _STORES[place.protocol].delta_options(environment)


def tried(place: "UPath") -> Trial:
    """Write, list, read and remove a file below the place. Raises StorageError where one of it cannot be done."""
    return _STORES[place.protocol].tried(place)


def trouble(error: Exception) -> str | None:
    """What a person is told of an error that comes from a store; None for any other."""
    for store in _STORES.values():
        if text := store.trouble(error):
            return f"the store of tables and checkpoints: {text}. `ward storage check` says whether it can be used"
    return None
