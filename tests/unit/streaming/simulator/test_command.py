"""How patients, cadence and rate follow from each other, and wrong usage of ``ward simulate``."""

import re

import pytest
import typer
from typer.testing import CliRunner

from wardhouse.commands.simulate import resolve, simulate

app = typer.Typer()
app.command()(simulate)


@pytest.mark.parametrize(
    ("patients", "cadence", "rate", "resolved"),
    [
        (None, None, None, (100, 1.0)),
        (1000, None, None, (1000, 1.0)),
        (None, 5.0, None, (100, 5.0)),
        (1000, None, 500.0, (1000, 2.0)),
        (None, None, 1000.0, (100, 0.1)),
        (None, 2.0, 50.0, (100, 2.0)),
        (60, 60.0, 1.0, (60, 60.0)),
    ],
)
def test_two_of_patients_cadence_and_rate_give_the_third(
    patients: int | None, cadence: float | None, rate: float | None, resolved: tuple[int, float]
) -> None:
    assert resolve(patients, cadence, rate) == resolved


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--patients 10 --cadence 1 --rate 20", "10 patients every 1 s are 10 messages/s, not 20"),
        ("--rate 0", "--cadence and --rate must be greater than 0"),
        ("--transients 201", "--transients 201: at most 200 an hour"),
        ("--fault late", "a fault is given as NAME=RATE"),
        ("--fault lat=0.1", "unknown fault 'lat'"),
        ("--faults some", "unknown preset of faults"),
        ("--start 2026-03-01T08:00:00", "give the offset as well"),
        ("--start yesterday", "not an instant"),
        ("--unit-beds ICU", "give UNIT=BEDS"),
        ("--unit-beds ICU=3 --patients 4", "4 patients do not fit into the 3 beds"),
        ("--duration 0s", "0s: give a time such as 60s, 2m or 1h"),
    ],
)
def test_wrong_usage_is_told_in_a_line_and_exits_with_2(arguments: str, text: str, tmp_path: object) -> None:
    result = CliRunner().invoke(app, [*arguments.split(), "--data-dir", str(tmp_path)], env={"COLUMNS": "250"})
    assert result.exit_code == 2
    assert text in re.sub(r"[\s│]+", " ", result.output)
