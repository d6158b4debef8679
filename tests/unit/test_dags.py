import ast
import re
from pathlib import Path


def commands() -> list[str]:
    """The shell text of every task."""
    calls = (node for file in Path("dags").glob("*.py") for node in ast.walk(ast.parse(file.read_text("utf-8"))))
    return [
        node.value.value
        for node in calls
        if isinstance(node, ast.keyword) and node.arg == "bash_command" and isinstance(node.value, ast.Constant)
    ]


def test_what_a_person_gives_to_a_run_is_no_text_of_a_command() -> None:
    # A text that is put together of others is no constant, and missing here.
    assert len(commands()) == sum(file.read_text("utf-8").count("bash_command=") for file in Path("dags").glob("*.py"))
    for command in commands():
        assert "{{" not in command
        # What stands between double quotes is one argument, whatever the variable holds.
        unquoted = re.sub(r'"[^"]*"', "", command)
        assert re.findall(r"\$(?!\{\w+:\+)", unquoted) == [], command
