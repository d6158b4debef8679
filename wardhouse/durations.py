"""Times as a person gives them on the command line."""

import re

import typer

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """60s, 2m, 1.5h or plain seconds. Raises BadParameter."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if found is None or float(found[1]) == 0:
        raise typer.BadParameter(f"{text}: give a time such as 60s, 2m or 1h")
    return float(found[1]) * _SECONDS[found[2]]
