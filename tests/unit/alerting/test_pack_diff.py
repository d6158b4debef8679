import pytest
from typer.testing import CliRunner

from alerting.pack import load, parse
from alerting.pack_diff import differences
from tests.unit.alerting.test_pack import HEADER, RULE
from wardhouse.cli import app

UNIT = "    units:\n      RESP:\n        limit: 86\n        clear_margin: 2\n        rationale: target 88-92\n"
SECOND = RULE.replace("spo2-low", "pulse-high").replace("signal: spo2", "signal: pulse_rate").replace("below", "above")


def test_a_pack_has_no_difference_to_itself() -> None:
    assert differences(load("adult"), load("adult")) == ()


def test_every_field_that_differs_is_a_line_and_so_is_a_rule_that_comes_or_goes() -> None:
    old = parse(HEADER + RULE + UNIT + SECOND, "old")
    changed = RULE.replace("limit: 90", "limit: 88").replace("priority: high", "priority: medium\n    delay_s: 15")
    third = SECOND.replace("pulse-high", "pulse-fast").replace("limit: 90", "limit: 150\n    delay_s: 5")
    new = parse(HEADER.replace("version: 3", "version: 4") + changed + third, "new")
    assert differences(old, new) == (
        "version: 3 -> 4",
        "~ spo2-low: priority: high -> medium",
        "~ spo2-low: delay_s: 0 -> 15",
        "~ spo2-low: limit: 90 -> 88",
        "~ spo2-low: units.RESP.limit: 86 -> none",
        "~ spo2-low: units.RESP.clear_margin: 2 -> none",
        "~ spo2-low: units.RESP.rationale: target 88-92 -> none",
        "+ pulse-fast: pulse_rate above 150 for 5 s, high",
        "- pulse-high: pulse_rate above 90, high",
    )


@pytest.mark.parametrize(("old", "new", "code"), [("adult", "adult", 0), ("adult", "child", 1)])
def test_the_command_says_so_by_its_exit_code(old: str, new: str, code: int) -> None:
    done = CliRunner().invoke(app, ["rules", "diff", old, new])
    assert done.exit_code == code
    assert ("the same rules" in done.stdout) is (code == 0)


def test_a_pack_that_is_not_there_is_named() -> None:
    done = CliRunner().invoke(app, ["rules", "diff", "adult", "none"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("ward: none: no such rule pack; known: adult, child")
