"""Rows of a CSV file to scores: what each column may hold, and what is left out of a score.

Each input has a column of its own name; blank is missing. A value outside the vocabulary's plausible range, a monitor's
"no value" among them, is missing too and named in ``left_out``.
"""

from collections.abc import Iterable, Iterator, Mapping

from lakehouse.scores import SPO2_SCALES, Definition, Inputs, Score, Value, input_of, score
from lakehouse.vocabulary import plausible, signal_by_name

_TRUTHS = {
    **dict.fromkeys(("1", "true", "yes", "y", "oxygen", "o2"), True),
    **dict.fromkeys(("0", "false", "no", "n", "air", "room air"), False),
}
_CONSCIOUSNESS = {
    "A": "alert",
    "C": "confusion",
    "V": "voice",
    "P": "pain",
    "U": "unresponsive",
}
_SCALES = {f"{scale:g}": scale for scale in SPO2_SCALES}


class ScoreInputError(ValueError):
    """The rows cannot be scored; the text names line and column."""


def added_columns(definition: Definition) -> tuple[str, ...]:
    """What a scored row has beyond its own columns."""
    points = (f"{part.name}_points" for part in definition.parts)
    return ("total", "total_min", "total_max", "risk", *points, "left_out")


def check_header(header: Iterable[str] | None, definition: Definition, name: Score) -> None:
    """Raise ScoreInputError where a header has no input of the score, or a column that would be written."""
    columns = set(header or ())
    if not columns & set(definition.inputs):
        raise ScoreInputError(f"no column is an input of {name}: it takes {', '.join(definition.inputs)}")
    if taken := sorted(columns & set(added_columns(definition))):
        raise ScoreInputError(f"the input has columns that the output adds: {', '.join(taken)}")


def scored_rows(rows: Iterable[Mapping[str, str]], definition: Definition) -> Iterator[dict[str, str]]:
    """Each row with the columns of :func:`added_columns`. Raises ScoreInputError; the first row is line 2."""
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ScoreInputError(f"line {line}: another number of fields than the header has")
        inputs = {name: _parsed(name, row[name].strip(), line) for name in definition.inputs if name in row}
        left_out = [name for name, value in inputs.items() if not _may_be(name, value)]
        yield {**row, **_scored(definition, {**inputs, **dict.fromkeys(left_out)}), "left_out": " ".join(left_out)}


def _may_be(name: str, value: Value) -> bool:
    if not isinstance(value, float):
        return True
    return input_of(name, value, None) is not None and plausible(signal_by_name()[name], value)


def _scored(definition: Definition, inputs: Inputs) -> dict[str, str]:
    found = score(definition, inputs)
    points = {f"{name}_points": _text(value) for name, value in found.parts.items()}
    totals = {name: _text(getattr(found, name)) for name in ("total", "total_min", "total_max", "risk")}
    return {**totals, **points}


def _text(value: int | str | None) -> str:
    return "" if value is None else str(value)


def _parsed(name: str, text: str, line: int) -> Value:
    if not text:
        return None
    if name == "on_oxygen":
        return _one_of(_TRUTHS, text.lower(), name, line)
    if name == "spo2_scale":
        return _one_of(_SCALES, text.removesuffix(".0"), name, line)
    if name == "consciousness":
        words = {word: code for code, word in _CONSCIOUSNESS.items()}
        return _one_of({**words, **{code.lower(): code for code in _CONSCIOUSNESS}}, text.lower(), name, line)
    try:
        return float(text)
    except ValueError:
        raise ScoreInputError(f"line {line}: {name} is {text!r}, not a number") from None


def _one_of(known: Mapping[str, Value], text: str, name: str, line: int) -> Value:
    if text not in known:
        raise ScoreInputError(f"line {line}: {name} is {text!r}, not one of {', '.join(known)}")
    return known[text]
