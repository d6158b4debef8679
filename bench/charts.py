"""Figures of benchmarks as pictures, SVG."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import altair as alt

PANELS = (("alert latency", "ms"), ("memory", "MB"), ("lag", "messages"), ("files", "of all tables"))
"""First words of a soak's series, each a picture of its own, and their unit."""
_WIDTH, _HEIGHT = 560, 170


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
