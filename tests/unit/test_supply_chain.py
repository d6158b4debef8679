import json
import tomllib
from pathlib import Path
from xml.etree import ElementTree

from detect_secrets import SecretsCollection
from detect_secrets.settings import transient_settings

from wardhouse.bootstrap import CONFIGURATIONS
from wardhouse.supply_chain import Part, bill_of_materials, libraries, not_allowed, packages, page


def test_every_package_of_the_lock_has_a_hash_of_each_of_its_files() -> None:
    lock = tomllib.loads(Path("uv.lock").read_text(encoding="utf-8"))["package"]
    files = [file for one in lock for file in [*one.get("wheels", []), *([one["sdist"]] if "sdist" in one else [])]]

    assert len(files) > len(lock)
    assert [file["url"] for file in files if not file.get("hash", "").startswith("sha256:")] == []


def test_every_licence_is_one_that_we_allow(jars: Path) -> None:
    assert not_allowed([*packages(Path("uv.lock")), *libraries(jars)]) == []


def test_a_licence_that_nobody_has_allowed_is_found() -> None:
    strict = Part("pypi", "strict", "1", "AGPL-3.0-only")

    both = Part("pypi", "both", "1", "MIT or GPL-2.0")

    assert not_allowed([Part("pypi", "free", "1", "MIT"), strict, both]) == [strict, both]


def test_the_page_of_licences_has_everything_that_is_installed(jars: Path) -> None:
    written = set(Path("docs/licences.md").read_text(encoding="utf-8").splitlines())

    # Elsewhere more may be installed than was where the page was made, and less.
    assert set(page([*packages(Path("uv.lock")), *libraries(jars)]).splitlines()) - written == set()


def test_the_bill_of_materials_has_java_libraries_with_the_hash_of_their_file(jars: Path) -> None:
    bom = bill_of_materials({"bomFormat": "CycloneDX", "components": [{"name": "uvicorn"}]}, list(libraries(jars)))

    kafka = next(one for one in bom["components"] if one["name"] == "kafka_2.13")
    assert kafka["purl"] == f"pkg:maven/org.apache.kafka/kafka_2.13@{kafka['version']}"
    assert len(kafka["hashes"][0]["content"]) == 64
    assert bom["components"][0] == {"name": "uvicorn"}


def test_the_configurations_are_those_that_set_up_resolves() -> None:
    declared = ElementTree.parse("ivy.xml").iter("conf")  # noqa: S314 - our own file

    assert {one.get("name") for one in declared} == set(CONFIGURATIONS)


def test_a_secret_in_a_tracked_file_is_found(tmp_path: Path) -> None:
    config = json.loads(Path(".secrets.baseline").read_text(encoding="utf-8"))
    leaked = tmp_path / "settings.py"
    leaked.write_text("url = 'https://ward:" + "hunter2-of-old" + "@mail.example'\n", encoding="utf-8")

    found = SecretsCollection()
    with transient_settings({"plugins_used": config["plugins_used"]}):
        found.scan_file(str(leaked))

    assert [secret.type for _, secret in found] == ["Basic Auth Credentials"]
