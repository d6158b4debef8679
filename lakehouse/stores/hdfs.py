"""HDFS. Who asks, and which name node a name means, is what Hadoop's own tools read from the environment."""

import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING
from uuid import uuid4

from lakehouse.stores import MARK, StorageError, Trial, plain

if TYPE_CHECKING:
    from upath import UPath

JARS: tuple[str, str] | None = None
_CLIENTS: dict[str, object] = {}
"""Clients that were used, by name node. One that is let go of waits for its threads, and a process that is forked, as
whoever starts Java is, has none: fsspec lets go of all it knows in a fork, which would then stand still for good."""
_ZONES = "whether it lies in an encryption zone, `hdfs crypto -listZones` says"
_OF_HDFS = ("hdfs", "HDFS")


def opened(name_node: str, folder: str) -> "UPath":
    """A folder of a name node. Raises StorageError where there can be none, or the library for it is missing."""
    try:
        import hdfs_native  # noqa: F401 - what upath opens such places with
        import upath  # noqa: F401
    except ImportError:
        raise StorageError(
            "HDFS needs hdfs-native, which is not installed: `uv sync --group storage`, or pip install hdfs-native"
        ) from None
    place = _kind()(f"hdfs://{name_node}{folder}")
    try:
        _CLIENTS[name_node] = place.fs
    except (OSError, RuntimeError) as error:
        raise StorageError(
            f"{place} leads to no name node: {plain(error)}. Give its port, or have HADOOP_CONF_DIR name the folder of"
            " the settings that know the name"
        ) from error
    return place


@cache
def _kind() -> "type[UPath]":
    """Places whose text names their name node. Those of upath leave it out, and Spark would ask its default one."""
    from upath.implementations.hdfs import HDFSPath
    from upath.registry import register_implementation

    class Place(HDFSPath):
        __slots__ = ()

        def __str__(self) -> str:
            host, port = (self.storage_options.get(name) for name in ("host", "port"))
            try:
                return f"hdfs://{host}{f':{port}' if port else ''}{self.path}"
            except NotImplementedError:
                # Relative to another one: it has no path of its own.
                return super().__str__()

        # fsspec takes a name node that does not answer for a file that is not there.
        def exists(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002 - HDFS has none
            return self._type() is not None

        def is_dir(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002
            return self._type() == "directory"

        def is_file(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002
            return self._type() == "file"

        def _type(self) -> str | None:
            try:
                return str(self.fs.info(self.path)["type"])
            except FileNotFoundError:
                return None
            except (OSError, RuntimeError) as error:
                raise StorageError(f"the store of tables and checkpoints: {self}: {plain(error)}") from error

    register_implementation("hdfs", Place, clobber=True)
    return Place


def spark_conf(environment: Mapping[str, str] = os.environ) -> dict[str, str]:  # noqa: ARG001 - as other stores have it
    """What a Spark session has to be told: nothing that it does not read itself."""
    return {}


def delta_options(environment: Mapping[str, str] = os.environ) -> dict[str, str]:  # noqa: ARG001 - as other stores have it
    """What deltalake has to be told: nothing that it does not read itself."""
    return {}


def lineage_name(place: "UPath") -> tuple[str, str]:
    """Namespace and name, by OpenLineage's rules of naming."""
    return str(place).removesuffix(place.path), place.path


def trouble(error: Exception) -> str | None:
    """The text of an error that comes from such a store; None for any other."""
    text = plain(error)
    return text if any(word in text for word in _OF_HDFS) else None


def tried(place: "UPath") -> Trial:
    """Write, list, read and remove a file below the place. Raises StorageError where one of it cannot be done."""
    mark = place / f"trial-{uuid4().hex}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        mark.write_bytes(MARK)
        try:
            read, listed = mark.read_bytes(), [one.name for one in place.glob(f"{mark.name}*")]
            if read != MARK or listed != [mark.name]:
                raise StorageError(f"{place}: what was written there is not what is read")
            return Trial(_refuses_again(mark), None, _ZONES)
        finally:
            mark.unlink()
    except (OSError, RuntimeError) as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"{place} cannot be used: {plain(error)}. HADOOP_CONF_DIR must name the settings of its name node where"
            " its address alone does not lead there, and HADOOP_USER_NAME, or a ticket of Kerberos, a user who may"
            " write there"
        ) from error


def _refuses_again(mark: "UPath") -> bool:
    try:
        with mark.fs.open(mark.path, "wb", overwrite=False):
            return False
    except (OSError, RuntimeError):
        return True
