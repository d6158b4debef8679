"""What a snapshot says it was made by, and the marts built anew from what it pins."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from lakehouse import digest, reader, scores, vocabulary
from lakehouse.datadir import DataDir
from lakehouse.pipeline import COHORTS
from lakehouse.snapshot import Difference, Manifest, link, place_of
from wardhouse import __version__
from wardhouse.commands import dbt
from wardhouse.errors import Failure
from wardhouse.settings import Settings

_ROOT = Path(__file__).resolve().parents[1]
_LIBRARIES = ("dbt-core", "dbt-spark", "pyspark", "delta-spark", "deltalake", "duckdb")
_FILES = {
    "vocabulary": (Path(vocabulary.__file__).parent, ("*.csv",)),
    "rule packs": (_ROOT / "alerting" / "rules", ("*.yaml",)),
    "dbt project": (dbt.PROJECT, ("*.yml", "models/**/*", "macros/**/*")),
}
_SCORES = (scores.SCORES, scores.STALE_AFTER, scores.RESTATED_AFTER, scores.INPUT_OF_SIGNAL)


def software() -> dict[str, str | None]:
    """Versions of ward and of what it makes tables with; ``commit`` is None outside a checkout."""
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    return {"wardhouse": __version__, "commit": _commit(), **versions}


def _commit() -> str | None:
    asked = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def configuration() -> dict[str, str]:
    """A SHA-256 for each part of what decides what tables contain: files by path and bytes, declarations by value."""
    parts = {name: files_hash(root, patterns) for name, (root, patterns) in _FILES.items()}
    return {**parts, "score declarations": sha256(repr(_SCORES).encode()).hexdigest()}


def files_hash(root: Path, patterns: Iterable[str]) -> str:
    """The SHA-256 of the names and the contents of the files under a folder, in order of their names."""
    files = sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})
    lines = (f"{sha256(path.read_bytes()).hexdigest()} {path.relative_to(root).as_posix()}\n" for path in files)
    return sha256("".join(lines).encode()).hexdigest()


def made_otherwise(manifest: Manifest) -> list[str]:
    """What of software and configuration is not as it was when the snapshot was made: a hint, not a fault."""
    then: Mapping[str, str | None] = {**manifest.software, **manifest.configuration}
    now: Mapping[str, str | None] = {**software(), **configuration()}
    return [f"{name} was {then.get(name)}, is {now.get(name)}" for name in now if then.get(name) != now.get(name)]


def rebuilt(data: DataDir, manifest: Manifest, memory: str) -> tuple[Difference, ...]:
    """Where marts, built anew from the pinned silver and gold, are not what the snapshot has. Starts Spark.

    Without marts in it nothing is built. Raises Failure where a model fails or the snapshot lacks a table that models
    read.
    """
    place = place_of(data, manifest.name)
    marts = [pin for pin in manifest.tables if pin.name.startswith("mart.")]
    if not marts:
        return ()
    pins = {pin.name: pin for pin in manifest.tables}
    if missing := sorted(set(COHORTS.reads) - pins.keys()):
        raise Failure(f"snapshot {manifest.name} lacks {', '.join(missing)}, of which marts are built")
    data.root.joinpath("scratch").mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="rebuild-", dir=data.root / "scratch") as folder:
        scratch = DataDir(Path(folder))
        for table in (table for table in dbt.SOURCES if table.full_name in pins):
            link(reader.open_table(place, table), place.table(table), scratch.table(table))
        _build(scratch, memory)
        found = {name: digest.content(reader.open(scratch, name)) for name in reader.tables_there(scratch)}
    return tuple(
        Difference(
            mart.name, "built anew from the pinned silver and gold, it has other rows: it was older than they are"
        )
        for mart in marts
        if mart.name not in found or found[mart.name].digest != mart.digest
    )


def _build(data: DataDir, memory: str) -> None:
    os.environ.update(dbt.environment(data))
    spark = dbt.open_session(Settings(), data, memory)
    try:
        if dbt.invoke(["--quiet", "run"]) != 0:
            raise Failure("dbt could not build the marts; the lines above say why")
    finally:
        spark.stop()
