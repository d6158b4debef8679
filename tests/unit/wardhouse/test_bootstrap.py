import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from wardhouse import bootstrap
from wardhouse.bootstrap import Java, Project, SetupError, check_python, explain, find_java, java_release

IVY_LACKS_ONE = """
		module not found: org.apache.spark#spark-token-provider-kafka-0-10_2.13;4.2.0
		::          UNRESOLVED DEPENDENCIES         ::
		:: org.apache.spark#spark-token-provider-kafka-0-10_2.13;4.2.0: not found
"""
IVY_LACKS_MORE = IVY_LACKS_ONE + "\t\t:: io.delta#delta-spark_4.2_2.13;4.4.0: not found\n"

Tool = Callable[[str, str], Path]


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """Call it with a name and a shell script to have that program in the folder ``bin``."""

    def write(name: str, script: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose environment is there, with an Ivy that needs no network and counts its calls."""
    made = Project(tmp_path / "project")
    jars = made.environment / "lib" / "python3.11" / "site-packages" / "pyspark" / "jars"
    jars.mkdir(parents=True)
    (jars / "ivy-2.5.jar").touch()
    (made.root / "ivy.xml").write_text("<ivy/>")
    return made


@pytest.mark.parametrize(
    ("said", "release"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ('java version "1.8.0_402"', 8),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
    ],
)
def test_the_release_is_read_from_what_java_says(said: str, release: int | None) -> None:
    assert java_release(said) == release


def test_java_is_found_on_the_path(tool: Tool) -> None:
    path = tool("java", "echo 'openjdk version \"21.0.4\"' >&2")
    assert find_java({"PATH": str(path.parent)}) == Java(str(path), 21)


def test_java_home_goes_before_the_path_as_it_does_for_spark(tool: Tool, tmp_path: Path) -> None:
    path = tool("java", "echo 'openjdk version \"17.0.1\"' >&2")
    with pytest.raises(SetupError, match="JAVA_HOME is /nowhere, where there is no working Java"):
        find_java({"PATH": str(path.parent), "JAVA_HOME": "/nowhere"})
    assert find_java({"PATH": "", "JAVA_HOME": str(tmp_path)}) == Java(str(path), 17)


def test_without_java_the_message_says_what_to_install_on_each_system() -> None:
    with pytest.raises(SetupError) as told:
        find_java({"PATH": ""})
    assert str(told.value) == bootstrap.JAVA_HELP
    for command in (
        "sudo apt-get install openjdk-17-jre-headless",
        "sudo dnf install java-21-openjdk-headless",
        "brew install openjdk@17",
    ):
        assert command in str(told.value)


def test_an_old_java_is_named_with_its_release(tool: Tool) -> None:
    path = tool("java", "echo 'openjdk version \"11.0.2\"' >&2")
    with pytest.raises(SetupError, match=rf"^{path} is Java 11\. Java 17 or later is needed"):
        find_java({"PATH": str(path.parent)})


def test_a_java_that_only_says_it_is_not_there_does_not_count(tool: Tool) -> None:
    path = tool("java", "echo 'Unable to locate a Java Runtime.' >&2; exit 1")
    with pytest.raises(SetupError, match=f"^{path} is no working Java"):
        find_java({"PATH": str(path.parent)})


@pytest.mark.parametrize("version", [(3, 11), (3, 12)])
def test_a_supported_python_passes(version: tuple[int, int]) -> None:
    check_python(version)


@pytest.mark.parametrize("version", [(3, 10), (3, 13)])
def test_another_python_is_refused_with_what_to_do(version: tuple[int, int]) -> None:
    with pytest.raises(SetupError, match=rf"Python 3\.11 or 3\.12 is needed, and this is 3\.{version[1]}\. Install"):
        check_python(version)


def test_set_up_as_a_program_tells_of_missing_java_in_words_and_exits_with_1(tmp_path: Path) -> None:
    shutil.copytree("wardhouse", tmp_path / "wardhouse", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock", "ivy.xml"):
        shutil.copy(name, tmp_path)
    done = subprocess.run(
        [sys.executable, "wardhouse/bootstrap.py"], cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"setup: {bootstrap.JAVA_HELP}\n")


def test_set_up_imports_nothing_but_the_standard_library() -> None:
    # -S leaves out site-packages, where everything else would come from.
    subprocess.run([sys.executable, "-S", "-m", "wardhouse.bootstrap", "--help"], check=True, capture_output=True)


def test_uv_is_of_the_version_in_the_lock_file() -> None:
    locked = tomllib.loads(Path("uv.lock").read_text())["package"]
    assert [package["version"] for package in locked if package["name"] == "uv"] == [bootstrap.UV_VERSION]


def test_a_network_failure_is_one_line() -> None:
    said = "error: Failed to fetch: `https://pypi.org/simple/x/`\n  Caused by: dns error\n  Caused by: no route\n"
    assert explain("uv", Path("/log"), said) == (
        "uv could not download: is the network there, and its proxy or mirror set? What is done stays done;"
        " run this again later. Details: /log"
    )


def test_another_failure_shows_the_last_lines() -> None:
    said = "\n".join(f"line {number}" for number in range(100))
    told = explain("uv", Path("/log"), said).splitlines()
    assert (told[0], told[1].strip(), told[-2].strip(), told[-1].strip()) == (
        "uv failed:",
        "line 85",
        "line 99",
        "All it said: /log",
    )


def test_only_a_missing_token_provider_alone_calls_for_the_other_revision() -> None:
    assert bootstrap.lacks_only_token_provider(IVY_LACKS_ONE)
    assert not bootstrap.lacks_only_token_provider(IVY_LACKS_MORE)
    assert not bootstrap.lacks_only_token_provider("Server access error")


BRINGS_EACH = (
    "mkdir -p .jars/.new; cd .jars/.new; mkdir spark kafka mqtt storage;"
    " touch spark/delta-spark_1.jar kafka/kafka_2.jar mqtt/artemis-mqtt-protocol-3.jar storage/hadoop-aws-4.jar"
)
"""What stands in for Ivy, where it finds everything."""


def test_jars_of_an_earlier_declaration_leave_the_class_path(project: Project, tool: Tool) -> None:
    (project.jars / "kafka").mkdir(parents=True)
    (project.jars / "kafka" / "kafka_old.jar").touch()
    java = tool("java", BRINGS_EACH)
    bootstrap.resolve_jars(project, Java(str(java), 17), lambda _: None)
    assert sorted(str(path.relative_to(project.jars)) for path in project.jars.rglob("*.jar")) == [
        "kafka/kafka_2.jar",
        "mqtt/artemis-mqtt-protocol-3.jar",
        "spark/delta-spark_1.jar",
        "storage/hadoop-aws-4.jar",
    ]


def test_the_other_token_provider_is_taken_with_one_line_of_warning(project: Project, tool: Tool) -> None:
    java = tool(
        "java",
        f'case "$1" in -Dtoken.provider.revision=4.1.0-preview1) {BRINGS_EACH};;'
        f" *) cat <<'END'\n{IVY_LACKS_ONE}END\nexit 1;; esac",
    )
    said: list[str] = []
    bootstrap.resolve_jars(project, Java(str(java), 17), said.append)
    assert said == ["      no spark-token-provider-kafka 4.2.0 here: taking 4.1.0-preview1, which works as well"]
    assert (project.jars / "kafka" / "kafka_2.jar").exists()


def test_a_resolution_that_brings_no_jars_is_a_failure_and_leaves_the_old_ones(project: Project, tool: Tool) -> None:
    (project.jars / "kafka").mkdir(parents=True)
    (project.jars / "kafka" / "kafka_old.jar").touch()
    with pytest.raises(SetupError, match=r"Ivy brought no delta-spark_\*\.jar"):
        bootstrap.resolve_jars(project, Java(str(tool("java", "mkdir -p .jars/.new")), 17), lambda _: None)
    assert (project.jars / "kafka" / "kafka_old.jar").exists()


def test_a_step_is_done_only_for_the_inputs_it_was_done_with(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("one")
    before = bootstrap.fingerprint([tmp_path / "lock"], "3.11")
    (tmp_path / "stamp").write_text(before)
    assert bootstrap.is_done(tmp_path / "stamp", before)
    assert not bootstrap.is_done(tmp_path / "absent", before)
    (tmp_path / "lock").write_text("two")
    assert not bootstrap.is_done(tmp_path / "stamp", bootstrap.fingerprint([tmp_path / "lock"], "3.11"))


def test_a_step_that_fails_leaves_no_stamp_so_that_the_next_run_repeats_it(tmp_path: Path) -> None:
    (tmp_path / "stamp").write_text("earlier")

    def fail() -> None:
        raise SetupError("no network")

    with pytest.raises(SetupError):
        bootstrap.stamped(tmp_path / "stamp", "now", fail)
    assert not (tmp_path / "stamp").exists()


def test_what_is_set_up_takes_neither_network_nor_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    for path in (root / ".venv" / "bin" / "python", root / ".venv" / "bin" / "uv", root / ".jars" / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("pyproject.toml", "uv.lock", "ivy.xml"):
        (root / name).write_text(name)
    major, minor = sys.version_info[:2]
    (root / ".venv" / "pyvenv.cfg").write_text(f"version = {major}.{minor}.1\n")
    project = Project(root)
    packages, libraries = bootstrap.fingerprints(project, (major, minor))
    (root / ".venv" / "packages.stamp").write_text(packages)
    (root / ".jars" / "libraries.stamp").write_text(libraries)
    monkeypatch.setattr(os, "environ", {"PATH": ""})
    said: list[str] = []
    bootstrap.set_up(project, said.append)
    assert said == []


def test_an_environment_that_was_moved_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "project"
    project = Project(root)
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").touch()
    (root / ".venv" / "pyvenv.cfg").write_text("version_info = 3.12.4\n")
    (root / ".venv" / "bin" / "ward").write_text(f"#!{root}/.venv/bin/python\n")
    assert bootstrap.environment_version(project) == (3, 12)
    (root / ".venv" / "bin" / "ward").write_text("#!/elsewhere/.venv/bin/python\n")
    assert bootstrap.environment_version(project) is None
