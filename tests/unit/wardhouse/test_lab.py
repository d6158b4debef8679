"""``ward alerts simulate``: sources, options and what it prints."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.datadir import DataDir
from lakehouse.tables import VITAL_SIGN_MINUTE
from tests.fixtures.mimic import write_mimic_iv
from wardhouse.cli import app

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def simulate(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["alerts", "simulate", "--processes", "1", *arguments])
    return done.exit_code, done.stdout, done.stderr


def figures(*arguments: str) -> list[dict[str, object]]:
    code, out, err = simulate(*arguments, "--json")
    assert code == 0, err
    packs: list[dict[str, object]] = json.loads(out)["packs"]
    return packs


@pytest.fixture(scope="module")
def simulated() -> str:
    arguments = "--patients 6 --hours 0.5 --cadence 2 --episodes 4 --transients 30 --against plain --seed 3"
    code, out, err = simulate(*arguments.split(), "--limit", "spo2-low=88/20")
    assert code == 0, err
    return out


def test_packs_stand_side_by_side_and_the_last_line_says_how_much_less_is_told(simulated: str) -> None:
    lines = simulated.splitlines()
    assert lines[0].split() == ["adult@2", "adult+spo2-low=88/20@2", "plain@2"]
    rows = {line[:33].strip(): line[33:].split() for line in lines[1:]}
    assert rows["patients"] == ["6", "6", "6"]
    assert rows["messages"] == ["5,400", "5,400", "5,400"]
    assert rows["sensitivity"] == ["1", "1", "1"]
    adult, higher, plain = (int(count) for count in rows["notifications"])
    assert 0 < higher <= adult < plain
    assert lines[-1] == f"adult@2 tells {1 - adult / plain:.0%} less often than plain@2"


def test_the_same_command_gives_the_same_figures_in_any_number_of_processes() -> None:
    ward = [str(Path(sys.executable).parent / "ward"), "alerts", "simulate", "--patients", "6", "--hours", "0.2"]
    alone, shared = (
        subprocess.run([*ward, "--processes", count], capture_output=True, text=True, check=True, timeout=120).stdout
        for count in ("1", "3")
    )
    assert "alerts per bed and day" in alone
    assert alone == shared


def test_minutes_of_gold_are_history_too(tmp_path: Path) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    minutes = [START + timedelta(minutes=n) for n in range(60)]
    values = [130.0 if 20 <= n < 30 else 80.0 for n in range(60)]
    count = len(minutes)
    columns = {
        "patient_id": ["hospital/1"] * count,
        "code": ["8867-4"] * count,
        "minute": pa.array(minutes, pa.timestamp("us", tz="UTC")),
        "unit": ["/min"] * count,
        "count": pa.array([60] * count, pa.int64()),
        **dict.fromkeys(("min", "mean", "max", "first", "last"), values),
    }
    write_deltalake(str(DataDir(tmp_path).table(VITAL_SIGN_MINUTE)), pa.table(columns))
    place = ("--source", "gold", "--data-dir", str(tmp_path), "--from", "2026-01-31T12:00:00Z", "--to", "2026-02-01")
    (found,) = figures(*place)
    assert (found["patients"], found["evaluations"], found["by_rule"]) == (1, 60, {"heart-rate-high": 1})
    (nothing,) = figures(*place[:-1], "2026-01-31T12:10:00Z")
    assert (nothing["evaluations"], nothing["alerts"]) == (10, 0)


def test_a_data_set_is_replayed(tmp_path: Path) -> None:
    write_mimic_iv(tmp_path, seed=2, patients=3, hours=6)
    (found,) = figures("--source", "replay", "--data-set", "mimic-iv", "--path", str(tmp_path))
    assert found["patients"] == 3
    assert found["episodes"] == 0


def test_a_run_of_the_simulator_is_made_again_from_its_truth(tmp_path: Path) -> None:
    picture = tmp_path / "rules.svg"
    (found,) = figures("--patients", "2", "--hours", "0.1", "--plot", str(picture))
    assert found["patients"] == 2
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rules", "nowhere"), "ward: nowhere: no such rule pack"),
        (("--limit", "spo2-lower=88"), "ward: --limit spo2-lower=88: adult@2 has no limit rule spo2-lower"),
        (("--limit", "spo2-low=low"), "ward: --limit spo2-low=low: could not convert string to float"),
        (("--limit", "spo2-low=99"), "ward: --limit spo2-low=99: "),
        (("--source", "replay"), "ward: --source replay needs --path"),
        (("--source", "replay", "--path", "x", "--data-set", "y"), "ward: no source named y"),
        (("--source", "gold", "--from", "noon"), "ward: --from noon: not an instant such as"),
        (("--path", "nowhere.jsonl"), "ward: nowhere.jsonl"),
        (("--patients", "1", "--hours", "0.01", "--plot", "x.doc"), "ward: --plot x.doc: "),
    ],
)
def test_what_cannot_be_tried_is_one_clear_error(arguments: tuple[str, ...], said: str) -> None:
    code, _, err = simulate(*arguments)
    assert code == 1
    assert any(line.startswith(said) for line in err.splitlines()), err
