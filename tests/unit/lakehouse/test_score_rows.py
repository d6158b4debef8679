import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wardhouse.cli import app

HEADER = "id,respiratory_rate,spo2,spo2_scale,on_oxygen,systolic_bp,heart_rate,consciousness,temperature"
PARTS = ("respiratory_rate", "spo2", "oxygen", "systolic_bp", "heart_rate", "consciousness", "temperature")


@pytest.fixture
def run(tmp_path: Path):
    """Call it with a score and the text of a CSV file: exit code, what was said on stderr, rows written."""

    def scored(name: str, text: str) -> tuple[int, str, list[dict[str, str]] | None]:
        source, target = tmp_path / "in.csv", tmp_path / "out.csv"
        source.write_text(text, encoding="utf-8")
        done = CliRunner().invoke(app, ["score", name, str(source), str(target)])
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        if not target.exists():
            return done.exit_code, done.stderr, None
        with target.open(encoding="utf-8") as file:
            return done.exit_code, done.stderr, list(csv.DictReader(file))

    return scored


def test_each_row_keeps_its_columns_and_gets_its_score(run) -> None:
    code, said, rows = run("news2", f"{HEADER}\na,25,91,1,yes,100,131,V,39.1\nb,16,98,,0,120,70,Alert,37\n")
    assert (code, said) == (0, "")
    assert rows is not None
    assert [(row["id"], row["spo2"], row["total"], row["total_min"], row["risk"]) for row in rows] == [
        ("a", "91", "18", "18", "high"),
        ("b", "98", "0", "0", "low"),
    ]
    assert [row[f"{part}_points"] for row in rows[:1] for part in PARTS] == ["3", "3", "2", "2", "3", "3", "2"]


def test_blank_and_implausible_values_are_missing_and_the_latter_are_named(run) -> None:
    _, _, rows = run("news2", f"{HEADER}\na,16,98,1,0,120,0,A,\nb,16,98,1,0,-999,300,A,37\nc,16,98,1,0,120,nan,A,37\n")
    assert rows is not None
    assert [(row["total"], row["total_min"], row["total_max"], row["risk"], row["left_out"]) for row in rows] == [
        ("", "0", "6", "", "heart_rate"),
        ("", "0", "6", "", "systolic_bp heart_rate"),
        ("", "0", "3", "", "heart_rate"),
    ]
    assert [row["heart_rate_points"] for row in rows] == ["", "", ""]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient,pulse\n1,2\n", "no column is an input of qsofa: it takes respiratory_rate, systolic_bp, gcs, "),
        ("gcs,total\n15,1\n", "the input has columns that the output adds: total"),
        ("gcs,systolic_bp\n15,120\n14,low\n", "line 3: systolic_bp is 'low', not a number"),
        ("consciousness\nB\n", "line 2: consciousness is 'b', not one of alert"),
        ("gcs,systolic_bp\n15\n", "line 2: another number of fields than the header has"),
        ("gcs\n15,3\n", "line 2: another number of fields than the header has"),
        ("", "no column is an input of qsofa"),
    ],
)
def test_what_cannot_be_scored_is_named_and_leaves_no_file(run, text: str, said: str) -> None:
    code, error, rows = run("qsofa", text)
    assert (code, rows) == (1, None)
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["score", "sirs", str(tmp_path / "none.csv"), str(tmp_path / "out.csv")])
    assert (done.exit_code, done.stderr) == (1, f"ward: no such file or folder: {tmp_path / 'none.csv'}\n")


def test_the_example_of_the_docs_is_what_the_command_gives(run) -> None:
    page = (Path(__file__).parents[3] / "docs" / "scores.md").read_text(encoding="utf-8")
    given, expected = (block.split("```")[0] for block in page.split("```csv\n")[1:])
    _, _, rows = run("news2", given)
    shown = list(csv.DictReader(expected.splitlines()))
    assert rows is not None
    assert [{name: row[name] for name in shown[0]} for row in rows] == shown
