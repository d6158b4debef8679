"""What the containers run, checked without a Docker engine."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
import yaml

from lakehouse.topics import MAX_RECORD_BYTES
from wardhouse.bootstrap import UV_VERSION
from wardhouse.cli import app

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"])


def ours() -> dict[str, Any]:
    return {name: service for name, service in services().items() if "build" in service}


def targets() -> dict[str, list[str]]:
    """The Dockerfile's stages that say what they run, and what that is."""
    found = re.findall(r"^FROM \S+ AS (\S+)\nCMD \[(.*)\]$", DOCKERFILE, flags=re.MULTILINE)
    return {stage: [word.strip().strip('"') for word in command.split(",")] for stage, command in found}


def check_ward_command(words: list[str]) -> None:
    """Raise where the words are not a command line that ward takes, without running it."""
    assert words[0] == "ward"
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        name, *rest = rest
        assert name in command.commands, f"ward has no command {name}"
        command = command.commands[name]
    command.make_context(words[1], rest)


def test_the_compose_file_keeps_the_compose_specification() -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stdout.strip()) == (0, "ok -- validation done")


@pytest.mark.parametrize("name", sorted(ours()))
def test_every_container_runs_a_command_that_ward_takes(name: str) -> None:
    check_ward_command(ours()[name]["command"])


@pytest.mark.parametrize("stage", sorted(targets()))
def test_every_image_runs_a_command_that_ward_takes(stage: str) -> None:
    check_ward_command(targets()[stage])


def test_a_command_that_ward_does_not_take_is_found_out() -> None:
    with pytest.raises(AssertionError, match="ward has no command scream"):
        check_ward_command(["ward", "scream"])
    with pytest.raises(typer.BadParameter):
        check_ward_command(["ward", "stream", "everything"])


def test_every_service_is_built_for_a_target_that_the_dockerfile_has() -> None:
    assert {service["build"]["target"] for service in ours().values()} <= set(targets())


def test_every_service_that_goes_on_running_has_a_health_check() -> None:
    assert [name for name, service in services().items() if "healthcheck" not in service] == ["apply"]


def test_gateway_and_dashboard_are_reached_from_this_machine_only() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in published)
    assert {name for name, service in services().items() if service.get("network_mode") == "host"} == {
        "gateway",
        "dashboard",
    }
    assert "0.0.0.0" not in COMPOSE.read_text(encoding="utf-8")  # noqa: S104 - what must not be there


def test_versions_are_pinned_and_are_those_of_the_project() -> None:
    images = [service["image"] for service in services().values()]
    revisions = {
        item.get("name"): item.get("rev")
        for item in ElementTree.parse(ROOT / "ivy.xml").iter("dependency")  # noqa: S314
    }

    assert all(re.search(r":\d+\.\d+\.\d+$", image) for image in images)
    assert services()["kafka"]["image"] == f"apache/kafka:{revisions['kafka_2.13']}"
    assert services()["kafka"]["environment"]["KAFKA_MESSAGE_MAX_BYTES"] == MAX_RECORD_BYTES
    assert re.findall(r"^ARG UV_VERSION=(.*)$", DOCKERFILE, flags=re.MULTILINE) == [UV_VERSION]
    assert re.findall(r"^FROM (python\S*)", DOCKERFILE, flags=re.MULTILINE) == ["python:3.11.13-slim-bookworm"]


def test_every_image_runs_as_a_user_without_rights() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, flags=re.MULTILINE | re.DOTALL))
    parent_of = {stage: parent for parent, stage in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}

    assert {stage: "USER ward" in stages[parent_of[stage]] for stage in targets()} == dict.fromkeys(targets(), True)
