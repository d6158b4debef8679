"""Set-up of a fresh machine: Python environment, packages, Java libraries. Standard library only.

The Makefile runs this file with the system's Python, before anything is installed. Each step leaves a stamp with a
hash of what it was made from, so that a second run needs neither network nor time, and an interrupted one is
taken up where it stopped.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SUPPORTED_PYTHON = ((3, 11), (3, 12))
OLDEST_JAVA = 17
UV_VERSION = "0.13.9"
"""As in uv.lock, which brings its own afterwards."""
TOKEN_PROVIDER_FALLBACK = "4.1.0-preview1"  # noqa: S105 - a version
"""Revision of spark-token-provider-kafka that works with Spark 4.2.0 too, for mirrors that lack 4.2.0."""
LOG_LINES_SHOWN = 15
CONFIGURATIONS = {
    "spark": "delta-spark_*.jar",
    "storage": "hadoop-aws-*.jar",
    "kafka": "kafka_*.jar",
    "mqtt": "artemis-mqtt-*.jar",
}
"""The configurations of ivy.xml, each a folder of .jars, and a file that must be in it."""
SIGN_OF_LIFE_S = 10.0

_NETWORK = re.compile(
    r"failed to (?:fetch|download|lookup)|dns error|name resolution|name or service not known|unknownhost"
    r"|connection (?:refused|reset|timed out)|connecttimeout|network is unreachable|no route to host"
    r"|server access error|could not connect|newconnectionerror|max retries|error sending request"
    r"|no matching distribution",
    re.IGNORECASE,
)

JAVA_HELP = f"""\
Java {OLDEST_JAVA} or later is needed (Spark and Kafka run on it). Install it, then run this again:
  Debian, Ubuntu:  sudo apt-get install openjdk-17-jre-headless
  Fedora, RHEL:    sudo dnf install java-21-openjdk-headless
  macOS:           brew install openjdk@17 && export JAVA_HOME="$(brew --prefix openjdk@17)"
A Java that is installed elsewhere is found by JAVA_HOME."""


class SetupError(Exception):
    """The machine lacks something. The text says what, and what to do."""


@dataclass(frozen=True)
class Java:
    """A Java runtime: the program and its feature release (17, 21, ...)."""

    path: str
    release: int


@dataclass(frozen=True)
class Project:
    """Where set-up reads and writes."""

    root: Path

    @property
    def environment(self) -> Path:
        """The project's own Python environment."""
        return self.root / ".venv"

    @property
    def jars(self) -> Path:
        """Folder of the resolved Java libraries."""
        return self.root / ".jars"

    @property
    def log(self) -> Path:
        """What the tools that set-up runs have said."""
        return self.environment / "setup.log"

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.environment / "bin" / "python"

    @property
    def uv(self) -> Path:
        """The environment's package installer."""
        return self.environment / "bin" / "uv"


def java_release(text: str) -> int | None:
    """The feature release in what ``java -version`` prints: 17 of ``17.0.15``, 8 of ``1.8.0_402``, else None."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if found is None:
        return None
    first, second = int(found[1]), found[2]
    return int(second) if first == 1 and second else first


def find_java(environment: Mapping[str, str] = os.environ) -> Java:
    """The Java of JAVA_HOME, else of PATH. Raises SetupError where there is none, or one that is too old."""
    # Spark's own scripts ask JAVA_HOME first and look no further, so what it names must serve.
    home = environment.get("JAVA_HOME")
    path = str(Path(home) / "bin" / "java") if home else shutil.which("java", path=environment.get("PATH", ""))
    if path is None:
        raise SetupError(JAVA_HELP)
    named = f"JAVA_HOME is {home}, where there is" if home else f"{path} is"
    try:
        said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        raise SetupError(f"{named} no working Java. {JAVA_HELP}") from None
    # macOS has a stand-in for java that only says that there is none.
    release = java_release(said.stderr + said.stdout) if said.returncode == 0 else None
    if release is None:
        raise SetupError(f"{named} no working Java. {JAVA_HELP}")
    if release < OLDEST_JAVA:
        raise SetupError(f"{named} Java {release}. {JAVA_HELP}")
    return Java(path, release)


def check_python(version: tuple[int, int]) -> None:
    """Raise SetupError where this Python is not one the locked packages are made for."""
    if version not in SUPPORTED_PYTHON:
        wanted = " or ".join(f"{major}.{minor}" for major, minor in SUPPORTED_PYTHON)
        raise SetupError(
            f"Python {wanted} is needed, and this is {version[0]}.{version[1]}. Install one of them"
            " (Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv; Fedora: sudo dnf install python3.12;"
            " macOS: brew install python@3.12), then run this again, or name it: make setup PYTHON=/path/to/python3.12"
        )


def fingerprint(files: Sequence[Path], *extra: str) -> str:
    """A hash of the files' content and of whatever else a step depends on."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes() + b"\0")
    for text in extra:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def is_done(stamp: Path, wanted: str) -> bool:
    """Whether a step has been completed with just these inputs."""
    return stamp.exists() and stamp.read_text(encoding="utf-8").strip() == wanted


def lacks_only_token_provider(said: str) -> bool:
    """Whether Ivy, by the end of what it said, found everything but spark-token-provider-kafka."""
    missing = re.findall(r":: (\S+#\S+): not found", said.rpartition("UNRESOLVED DEPENDENCIES")[2])
    return bool(missing) and all("#spark-token-provider-kafka" in name for name in missing)


def explain(tool: str, log: Path, said: str) -> str:
    """Why a tool failed, in one line where the network is at fault, else with the last lines that it wrote."""
    if _NETWORK.search(said):
        return (
            f"{tool} could not download: is the network there, and its proxy or mirror set? What is done stays done;"
            f" run this again later. Details: {log}"
        )
    last = "\n".join(f"    {line}" for line in said.splitlines()[-LOG_LINES_SHOWN:])
    return f"{tool} failed:\n{last}\n  All it said: {log}"


def run(
    tool: str,
    command: Sequence[str | Path],
    project: Project,
    say: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a tool, its words into the log; return them. Tells now and then that it lives. Raises SetupError."""
    started = time.monotonic()
    with project.log.open("a+", encoding="utf-8", errors="replace") as log:
        log.write(f"$ {' '.join(map(str, command))}\n")
        log.flush()
        beginning = log.tell()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=project.root,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while (code := _wait(process, SIGN_OF_LIFE_S)) is None:
                say(f"      {time.monotonic() - started:.0f} s, {tool}: {_last_words(project.log)}")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        log.seek(beginning)
        said = log.read()
    if code != 0:
        raise SetupError(explain(tool, project.log, said))
    return said


def _last_words(log: Path) -> str:
    """The last line of the log that is more than dots of a download, cut to fit a terminal."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next(line for line in reversed(lines) if re.search("[a-z]", line)).strip()[:90]


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def make_environment(project: Project) -> None:
    """Make .venv with pip in it, or again where it is broken, moved or of another Python; nothing where it is sound."""
    # Without uv in it, an earlier run was interrupted somewhere before.
    if environment_version(project) != sys.version_info[:2] or not project.uv.exists():
        try:
            venv.create(project.environment, clear=True, with_pip=True, symlinks=True)
        except subprocess.CalledProcessError as error:
            raise SetupError(
                "cannot make a Python environment: Python's venv module is not complete"
                f" (Debian, Ubuntu: sudo apt-get install python3.{sys.version_info[1]}-venv)"
            ) from error
    project.log.write_text("", encoding="utf-8")


def install_packages(project: Project, say: Callable[[str], None]) -> None:
    """Install exactly what uv.lock names, by the uv of the environment, which pip installs where it is missing."""
    if not project.uv.exists():
        run("pip", [project.python, "-m", "pip", "install", "--quiet", f"uv=={UV_VERSION}"], project, say)
    environment = {"UV_PROJECT_ENVIRONMENT": str(project.environment), "VIRTUAL_ENV": str(project.environment)}
    run("uv", [project.uv, "sync", "--frozen", "--python", project.python], project, say, environment)


def resolve_jars(project: Project, java: Java, say: Callable[[str], None]) -> None:
    """Fetch the Java libraries of ivy.xml by the Ivy that pyspark brings: each of its confs is a folder of .jars."""
    ivy = next(project.environment.glob("lib/python3.*/site-packages/pyspark/jars/ivy-*.jar"))
    settings = os.environ.get("WARD_IVY_SETTINGS") or str(project.root / "ivysettings.xml")
    fresh = project.jars / ".new"
    shutil.rmtree(fresh, ignore_errors=True)

    def retrieve(*properties: str) -> None:
        options: list[str | Path] = [
            "-settings",
            settings,
            "-cache",
            project.jars / ".cache",
            "-ivy",
            project.root / "ivy.xml",
        ]
        pattern = f"{fresh}/[conf]/[artifact]-[revision].[ext]"
        command: list[str | Path] = [
            java.path,
            *properties,
            "-jar",
            ivy,
            *options,
            "-retrieve",
            pattern,
            "-types",
            "jar",
            "bundle",
        ]
        run("Ivy", command, project, say)

    try:
        retrieve()
    except SetupError:
        if not lacks_only_token_provider(project.log.read_text(encoding="utf-8", errors="replace")):
            raise
        say(f"      no spark-token-provider-kafka 4.2.0 here: taking {TOKEN_PROVIDER_FALLBACK}, which works as well")
        retrieve(f"-Dtoken.provider.revision={TOKEN_PROVIDER_FALLBACK}")
    for conf, needed in CONFIGURATIONS.items():
        if not any((fresh / conf).glob(needed)):
            raise SetupError(f"Ivy brought no {needed} for {conf}; what it said: {project.log}")
        # Jars of an earlier ivy.xml must not stay on the class path, so each folder is replaced as a whole.
        shutil.rmtree(project.jars / conf, ignore_errors=True)
        (fresh / conf).replace(project.jars / conf)
    shutil.rmtree(fresh)


def set_up(project: Project, say: Callable[[str], None]) -> None:
    """Everything, in order; what is done already is skipped. Raises SetupError."""
    version = sys.version_info[:2]
    check_python(version)
    packages, libraries = fingerprints(project, version)
    packages_stamp, libraries_stamp = project.environment / "packages.stamp", project.jars / "libraries.stamp"
    sound = environment_version(project) == version
    have_packages = sound and is_done(packages_stamp, packages)
    have_libraries = is_done(libraries_stamp, libraries)
    if have_packages and have_libraries:
        return

    java = find_java()
    steps: list[tuple[str, Callable[[], None]]] = []
    if not have_packages:
        steps += [
            (f"Python {version[0]}.{version[1]} environment in .venv", lambda: make_environment(project)),
            (
                "Python packages of uv.lock",
                lambda: stamped(packages_stamp, packages, lambda: install_packages(project, say)),
            ),
        ]
    if not have_libraries:
        steps.append(
            (
                f"Java libraries of ivy.xml, by Java {java.release}",
                lambda: stamped(libraries_stamp, libraries, lambda: resolve_jars(project, java, say)),
            )
        )
    for number, (title, act) in enumerate(steps, 1):
        started = time.monotonic()
        say(f"[{number}/{len(steps)}] {title} ...")
        act()
        say(f"[{number}/{len(steps)}] {title}: {time.monotonic() - started:.0f} s")


def fingerprints(project: Project, version: tuple[int, int]) -> tuple[str, str]:
    """What the stamps of the packages and of the Java libraries must say."""
    declared = [project.root / "uv.lock", project.root / "pyproject.toml"]
    return fingerprint(declared, str(version), str(project.root)), fingerprint([project.root / "ivy.xml"])


def stamped(stamp: Path, wanted: str, act: Callable[[], None]) -> None:
    """Do a step and note that it is done with these inputs; the old note goes first, for a step that is interrupted."""
    stamp.unlink(missing_ok=True)
    act()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted, encoding="utf-8")


def environment_version(project: Project) -> tuple[int, int] | None:
    """The Python of .venv, by what its own configuration says; None where it is missing, broken or moved here."""
    try:
        config = (project.environment / "pyvenv.cfg").read_text(encoding="utf-8")
        script = project.environment / "bin" / "ward"
        # Scripts name their interpreter by its full path.
        if script.exists() and str(project.environment) not in script.read_text(encoding="utf-8")[:1000]:
            return None
    except OSError:
        return None
    # venv writes "version", uv "version_info"; a moved or removed base Python leaves a dangling link.
    found = re.search(r"^version(?:_info)? = (\d+)\.(\d+)", config, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found and project.python.exists() else None


def main() -> int:
    """Set the project up that this file is in; 0, or 1 with the reason on stderr."""

    def say(text: str) -> None:
        print(text, flush=True)  # noqa: T201 - there is nothing else to print with yet

    if len(sys.argv) > 1:
        say((__doc__ or "").strip())
        return 0
    try:
        set_up(Project(Path(__file__).resolve().parent.parent), say)
    except SetupError as error:
        sys.stderr.write(f"setup: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("setup: interrupted; run it again to go on\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
