"""Figures of benchmarks as pictures, SVG.

``python -m bench.charts`` draws those of docs/benchmarks.md anew, from the tables that stand there.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import altair as alt

PANELS = (("alert latency", "ms"), ("memory", "MB"), ("lag", "messages"), ("files", "of all tables"))
"""First words of a soak's series, each a picture of its own, and their unit."""
_WIDTH, _HEIGHT = 560, 170
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
IMAGES = PAGE.parent / "images"
QUANTILES = ("p50", "p90", "p99", "p99.9", "max")


def soak(samples: Sequence[Mapping[str, float]], file: Path) -> None:
    """A soak over its minutes, one panel for latency, memory, lag and files each; files by layer."""
    panels = [_panel(samples, kind, unit) for kind, unit in PANELS]
    chart = alt.vconcat(*panels).resolve_scale(color="independent").configure_view(stroke=None)
    file.parent.mkdir(parents=True, exist_ok=True)
    chart.save(file, format="svg")


def _panel(samples: Sequence[Mapping[str, float]], kind: str, unit: str) -> alt.Chart:
    points = [
        {"minute": one["at_s"] / 60, "series": re.split("[,.]", name.removeprefix(kind))[0].strip(), "value": value}
        for one in samples
        for name, value in one.items()
        if name.startswith(f"{kind} ")
    ]
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(points), title=f"{kind}, {unit}", width=_WIDTH, height=_HEIGHT)
        .mark_line()
        .encode(
            x=alt.X("minute:Q").title("minutes"),
            y=alt.Y("sum(value):Q").title(None),
            color=alt.Color("series:N").title(None).legend(symbolLimit=0),
        )
    )
    return chart


def rates(page: str, file: Path) -> None:
    """How long an alert takes at each rate, in real-time mode and in micro-batches."""
    points = []
    sent = set()
    for row in table(page, "messages/s | evaluation"):
        rate, _, mode = row[0].partition(" ")
        sent.add(_number(rate))
        for name, cell in zip(QUANTILES, row[-1 - len(QUANTILES) : -1], strict=True):
            if name in {"p50", "p99", "p99.9"}:
                at = {"rate": _number(rate), "mode": mode.strip("()") or "real-time"}
                points.append({**at, "quantile": name, "ms": _number(cell)})
    chart = (
        alt.Chart(alt.InlineData(points), width=_WIDTH, height=2 * _HEIGHT)
        .mark_line(point=True)
        .encode(
            x=alt.X("rate:Q").title("messages a second").scale(type="log").axis(values=sorted(sent)),
            y=alt.Y("ms:Q").title("from message to alert, ms").scale(type="log"),
            color=alt.Color("quantile:N").title(None),
            strokeDash=alt.StrokeDash("mode:N").title(None).sort(["real-time"]).legend(symbolType="stroke"),
        )
        .configure_view(stroke=None)
    )
    chart.save(file, format="svg")


def table(page: str, head: str) -> list[list[str]]:
    """The rows of the table of a page whose head begins with these words, as cells."""
    lines = iter(page.splitlines())
    next(line for line in lines if line.startswith(f"| {head}"))
    rows = list(takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[1:]]


def _number(cell: str) -> float:
    return float(cell.replace(",", ""))


def main() -> None:
    """Draw the pictures of the page."""
    rates(PAGE.read_text(encoding="utf-8"), IMAGES / "rates.svg")


if __name__ == "__main__":
    main()
