"""PDF pages from texts, lines and charts. Pure: values in, bytes out.

vl-convert draws: each chart is a small PDF, and so is everything that is written on a page, in a font that it brings
along, so that pages look alike on every machine and names of units may be in any script. pypdf puts them in place: text
stays text, lines stay lines. Measures are points (1/72 inch) from the upper left corner.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import altair as alt

WIDTH, HEIGHT = 595.0, 842.0
"""A4."""
MARGIN = 42.0
INNER = WIDTH - 2 * MARGIN
INK = "#1A1A1A"
MUTED = "#5C5C5C"
_TEXT = ("x", "y", "text", "size", "bold", "colour", "align")
_SMALL: dict[str, Any] = {"labelFontSize": 7.5, "titleFontSize": 7.5, "titleFontWeight": "normal"}
_FONT = "Liberation Sans, DejaVu Sans"


@dataclass(frozen=True)
class Text:
    """One line of text; ``y`` is its baseline."""

    x: float
    y: float
    text: str
    size: float = 9
    bold: bool = False
    colour: str = INK
    align: Literal["left", "center", "right"] = "left"


@dataclass(frozen=True)
class Box:
    """A filled rectangle; a low one is a line."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class Picture:
    """A chart of one view, in a rectangle that it fills."""

    x: float
    y: float
    width: float
    height: float
    chart: Any


@dataclass(frozen=True)
class Page:
    """What is on a page."""

    texts: Sequence[Text] = ()
    boxes: Sequence[Box] = ()
    pictures: Sequence[Picture] = field(default=())


def pdf(pages: Iterable[Page], *, title: str) -> bytes:
    """The pages as one PDF."""
    from pypdf import PdfWriter

    writer = PdfWriter()
    for page in pages:
        sheet = writer.add_blank_page(WIDTH, HEIGHT)
        _place(sheet, drawn(_written(page)), 0, 0, WIDTH, HEIGHT)
        for picture in page.pictures:
            chart = sized(picture.chart, picture.width, picture.height)
            _place(sheet, drawn(chart), picture.x, picture.y, picture.width, picture.height)
    for sheet in writer.pages:
        sheet.compress_content_streams()
    # Every part brought its fonts along.
    writer.compress_identical_objects()
    writer.add_metadata({"/Title": title, "/Creator": "Wardhouse"})
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def _place(sheet: Any, content: bytes, x: float, y: float, width: float, height: float) -> None:
    from pypdf import PdfReader, Transformation

    (page,) = PdfReader(io.BytesIO(content)).pages
    scale = min(width / float(page.mediabox.width), height / float(page.mediabox.height))
    bottom = HEIGHT - y - scale * float(page.mediabox.height)
    sheet.merge_transformed_page(page, Transformation().scale(scale).translate(x, bottom))


def drawn(chart: "alt.Chart | alt.LayerChart | alt.VConcatChart", kind: Literal["pdf", "png"] = "pdf") -> bytes:
    """The chart as PDF, or as a PNG of twice its size."""
    made = io.BytesIO()
    if kind == "png":
        chart.save(made, format="png", scale_factor=2)
    else:
        chart.save(made, format="pdf")
    return made.getvalue()


def sized(chart: Any, width: float, height: float) -> Any:
    """The chart of one view in the style of a page, axes and legend within its size."""
    import altair as alt

    return (
        chart.properties(
            width=width, height=height, padding=2, autosize=alt.AutoSizeParams(type="fit", contains="padding")
        )
        .configure(font=_FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=7.5, titleFontSize=7.5, titleFontWeight="normal", labelColor=MUTED, titleColor=MUTED
        )
        .configure_legend(labelFontSize=7.5, titleFontSize=7.5, titleFontWeight="normal", labelColor=MUTED)
        .configure_title(fontSize=10, color=INK, subtitleFontSize=7.5)
    )


def _written(page: Page) -> "alt.LayerChart":
    """Texts and boxes as a chart of the whole page."""
    import altair as alt
    import pandas as pd

    x = alt.X("x:Q", scale=alt.Scale(domain=[0, WIDTH], nice=False), axis=None)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[HEIGHT, 0], nice=False), axis=None)
    # A view needs a layer, also for an empty page.
    boxes = [Box(0, 0, WIDTH, HEIGHT, "#FFFFFF"), *page.boxes]
    filled = pd.DataFrame(
        [{"x": b.x, "y": b.y, "right": b.x + b.width, "low": b.y + b.height, "colour": b.colour} for b in boxes]
    )
    rows = pd.DataFrame([{name: getattr(text, name) for name in _TEXT} for text in page.texts], columns=list(_TEXT))
    layers = [
        alt.Chart(filled).mark_rect().encode(x=x, y=y, x2="right", y2="low", color=alt.Color("colour:N", scale=None)),
        # One mark for all: they stand in the file in the order in which they are given, which is that of reading.
        alt.Chart(rows)
        .mark_text(
            align=alt.expr("datum.align"),
            fontWeight=alt.expr("datum.bold ? 'bold' : 'normal'"),
            baseline="alphabetic",
            font=_FONT,
        )
        .encode(
            x=x,
            y=y,
            text="text:N",
            size=alt.Size("size:Q", scale=None),
            color=alt.Color("colour:N", scale=None),
        ),
    ]
    whole = alt.LayerChart(layer=layers).properties(width=WIDTH, height=HEIGHT, padding=0)
    written: alt.LayerChart = whole.configure_view(stroke=None)
    return written
