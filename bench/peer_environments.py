"""Environments of the engines beside ours: made once from pinned lists, by uv from the package index, never in our own.

An environment's folder carries the digest of its list, so that a changed list makes another.
"""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers" / "requirements"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wardhouse" / "peers"
FLINK_CONNECTOR = ("org.apache.flink", "flink-sql-connector-kafka", "5.0.0-2.2")
INSTALL_S = 900


class NotInstalled(RuntimeError):  # noqa: N818 - a peer that cannot be had is a row of the table, not a fault
    """An environment cannot be made here; the text is the reason."""


@dataclass(frozen=True)
class Environment:
    """An interpreter, and what its programs need of the process environment."""

    python: Path
    variables: dict[str, str]


def made(name: str, cache: Path = CACHE) -> Environment:
    """The environment of a peer, made where it is missing. Raises NotInstalled."""
    listed = REQUIREMENTS / f"{name}.txt"
    folder = cache / f"{name}-{hashlib.sha256(listed.read_bytes()).hexdigest()[:12]}"
    python, done = folder / "bin" / "python", folder / "made"
    uv = Path(sys.executable).parent / "uv"
    if not done.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder)
        _run(uv, "pip", "install", "--quiet", "--no-deps", "--python", python, "--requirement", listed)
        if name == "flink":
            _connector(folder / "jars")
        done.touch()
    return Environment(python, {"FLINK_JARS": str(folder / "jars")} if name == "flink" else {})


def version(name: str, package: str) -> str:
    """The pinned version of a package of a peer's list."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix(f"{package}==") for line in lines if line.startswith(f"{package}=="))


def _connector(folder: Path) -> None:
    """Flink's connector for Kafka, by the Ivy that pyspark brings."""
    ivy = next(Path(sys.prefix).glob("lib/python3.*/site-packages/pyspark/jars/ivy-*.jar"))
    settings = os.environ.get("WARD_IVY_SETTINGS")
    mirror = ("-settings", settings) if settings else ()
    target = folder / "[artifact]-[revision].[ext]"
    _run("java", "-jar", ivy, *mirror, "-dependency", *FLINK_CONNECTOR, "-types", "jar", "-retrieve", target)
    if not any(folder.glob("*.jar")):
        raise NotInstalled(f"no {FLINK_CONNECTOR[1]} {FLINK_CONNECTOR[2]} at the repository of Java libraries")


def _run(*command: str | Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"{command[0]} took over {INSTALL_S} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalled(said[-1] if said else f"exit code {done.returncode}")
