import re
from pathlib import Path

PAGE = Path("docs/threat-model.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`((?:unit|spark|integration|e2e)/\S+\.py)::(\w+)`", PAGE)


def test_every_test_that_the_threat_model_names_exists() -> None:
    missing = [
        f"{file}::{name}"
        for file, name in NAMED
        if not (path := Path("tests") / file).is_file() or f"def {name}(" not in path.read_text(encoding="utf-8")
    ]

    assert missing == []


def test_every_threat_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| who could")]

    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []
