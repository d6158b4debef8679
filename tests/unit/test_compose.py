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
_PINNED = re.compile(r":(v?\d+\.\d+\.\d+|\d+\.\d+-bookworm|RELEASE\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)$")
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"])


def brokers() -> dict[str, Any]:
    return {
        name: service for name, service in services().items() if service.get("image", "").startswith("apache/kafka")
    }


def settings(profile: str) -> dict[str, str]:
    """What a file of settings for ``--env-file`` sets."""
    lines = (ROOT / "docker" / f"{profile}.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


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


def test_what_people_open_is_reached_from_this_machine_only() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    on_the_host = {name for name, service in services().items() if service.get("network_mode") == "host"}

    assert len(published) == len({port.split(":")[1] for port in published})
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert on_the_host == {"gateway", "dashboard", "airflow", "prometheus", "grafana"}
    assert "--web.listen-address=127.0.0.1:9090" in services()["prometheus"]["command"]
    assert services()["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert "0.0.0.0" not in COMPOSE.read_text(encoding="utf-8")  # noqa: S104 - what must not be there


def test_versions_are_pinned_and_are_those_of_the_project() -> None:
    images = [service["image"] for service in services().values()]
    revisions = {
        item.get("name"): item.get("rev")
        for item in ElementTree.parse(ROOT / "ivy.xml").iter("dependency")  # noqa: S314
    }

    assert [image for image in images if not _PINNED.search(image)] == []
    for name in brokers():
        assert services()[name]["image"] == f"apache/kafka:{revisions['kafka_2.13']}"
        assert services()[name]["environment"]["KAFKA_MESSAGE_MAX_BYTES"] == MAX_RECORD_BYTES
    assert re.findall(r"^ARG UV_VERSION=(.*)$", DOCKERFILE, flags=re.MULTILINE) == [UV_VERSION]
    assert re.findall(r"^FROM (python\S*)", DOCKERFILE, flags=re.MULTILINE) == ["python:3.11.13-slim-bookworm"]


def test_every_container_is_confined_and_bounded() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "cpus"} <= set(service), name
        assert not service.get("privileged"), name
    # Kafka's image writes its settings beside its programs.
    assert {name for name, service in services().items() if not service.get("read_only")} == set(brokers())


def test_a_secret_is_a_file_that_somebody_makes_and_never_a_value() -> None:
    document = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    asked = {name for service in services().values() for name in service.get("secrets", ())}
    page = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")

    assert {name: secret["file"] for name, secret in document["secrets"].items()} == {
        name: f"${{WARD_SECRETS:-./secrets}}/{name}" for name in asked
    }
    assert set(re.findall(r"^\| `(\w+)` \| .* \| `\w+` \|$", page, flags=re.MULTILINE)) == asked
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for name, service in services().items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|_KEY|CONN|ROOT_USER", key):
                assert "/run/secrets/" in value, f"{name}: {key}"


def test_three_brokers_know_each_other_and_are_known_to_everybody() -> None:
    given = settings("brokers")
    inside = [service["environment"]["KAFKA_ADVERTISED_LISTENERS"] for service in brokers().values()]
    listeners = [dict(one.split("://") for one in text.split(",")) for text in inside]

    assert given["WARD_KAFKA_VOTERS"] == ",".join(
        f"{service['environment']['KAFKA_NODE_ID']}@{name}:9093" for name, service in brokers().items()
    )
    assert given["WARD_KAFKA_INSIDE"] == ",".join(one["INSIDE"] for one in listeners)
    assert given["WARD_KAFKA_HOST"] == ",".join(one["HOST"] for one in listeners)
    assert (given["WARD_KAFKA_REPLICAS"], given["WARD_KAFKA_MIN_ISR"]) == ("3", "2")
    assert all(
        f"{one['HOST']}:9092" in brokers()[name]["ports"] for name, one in zip(brokers(), listeners, strict=True)
    )


@pytest.mark.parametrize("profile", ["brokers", "cluster"])
def test_a_file_of_settings_sets_nothing_that_the_compose_file_does_not_take(profile: str) -> None:
    text = COMPOSE.read_text(encoding="utf-8")

    assert [name for name in settings(profile) if f"${{{name}" not in text and f" {name}:\n" not in text] == []
    assert f"--profile {profile} up" in (ROOT / "docker" / f"{profile}.env").read_text(encoding="utf-8")


def test_the_page_has_every_profile_and_what_it_starts() -> None:
    page = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"^\| `--profile (\w+)` \| ([^|]+) \|", page, flags=re.MULTILINE))
    started: dict[str, list[str]] = {}
    for name, service in services().items():
        for profile in service.get("profiles", ()):
            started.setdefault(profile, []).append(f"`{name}`")

    assert {profile: names.split(", ") for profile, names in written.items()} == started


def test_whom_a_container_waits_for_is_there_and_can_be_well() -> None:
    for name, service in services().items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services()[other], f"{name} waits for {other}"
            shared = set(services()[other].get("profiles", ())) <= set(service.get("profiles", ()))
            assert shared or how.get("required") is False, f"{name} waits for {other}, which its profile does not start"


def test_the_dockerfile_has_nothing_that_hadolint_finds() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), ROOT / "docker" / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.returncode, found.stdout) == (0, "")


def test_every_image_runs_as_a_user_without_rights() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, flags=re.MULTILINE | re.DOTALL))
    parent_of = {stage: parent for parent, stage in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}

    assert {stage: "USER 10001:10001" in stages[parent_of[stage]] for stage in targets()} == dict.fromkeys(
        targets(), True
    )
