"""Tiles as HTML. Pure; every text that comes from data is escaped."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from html import escape
from urllib.parse import quote
from zoneinfo import ZoneInfo

from alerting.lifecycle import State
from dashboard.clock import ago, moment
from dashboard.news2 import Trend
from dashboard.palette import INK_ON_COLOUR, PRIORITIES
from dashboard.ward import Reading, Tile, code

STALE = timedelta(minutes=5)
"""A value older than this is shown with its age: a monitor sends every few seconds, a cuff every few minutes."""

_TAKEN_ON = " \N{CHECK MARK}"
_WENT = {Trend.UP: "risen", Trend.SAME: "the same", Trend.DOWN: "fallen"}
_RISK_MARKS = {"high": "ward-breach", "medium": "ward-margin"}
_DASH = "\N{EN DASH}"

# Grid columns wrap, so that phones get one. Borders and greys are mixed from the text's own colour, which fits both the
# light and the dark theme.
STYLE = f"""
<style>
.ward-grid {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr)); gap: 0.75rem; }}
.ward-tile {{ display: block; color: inherit !important; text-decoration: none !important; border-radius: 0.5rem;
  border: 1px solid color-mix(in srgb, currentColor 18%, transparent); border-left-width: 0.4rem;
  padding: 0.55rem 0.75rem 0.6rem; background: color-mix(in srgb, currentColor 3%, transparent); }}
.ward-tile:hover, .ward-tile:focus-visible {{ background: color-mix(in srgb, currentColor 8%, transparent); }}
.ward-tile:focus-visible {{ outline: 2px solid currentColor; outline-offset: 2px; }}
.ward-head {{ display: flex; justify-content: space-between; align-items: baseline; gap: 0.5rem; }}
.ward-bed {{ font-weight: 650; font-size: 1.05rem; }}
.ward-muted {{ opacity: 0.7; font-size: 0.8rem; }}
.ward-id {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.ward-alert {{ font-size: 0.82rem; font-weight: 600; line-height: 1.5; padding: 0 0.4rem; border-radius: 0.25rem;
  margin-top: 0.3rem; color: {INK_ON_COLOUR}; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }}
.ward-news2 {{ font-weight: 600; font-variant-numeric: tabular-nums; margin-top: 0.15rem; }}
.ward-signals {{ display: grid; grid-template-columns: repeat(5, auto); justify-content: space-between;
  gap: 0 0.5rem; margin: 0.45rem 0 0.35rem; }}
.ward-signal {{ display: flex; flex-direction: column; }}
.ward-label {{ font-size: 0.72rem; opacity: 0.7; }}
.ward-value {{ font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }}
.ward-value sup {{ line-height: 0; }}
.ward-breach {{ border-bottom: 0.18rem solid {PRIORITIES["high"].colour}; }}
.ward-margin {{ border-bottom: 0.18rem dotted {PRIORITIES["medium"].colour}; }}
.ward-stale {{ opacity: 0.5; }}
{
    "".join(
        f'''
.ward-{p.name} {{ border-left-color: {p.colour}; }}
.ward-alert.ward-{p.name} {{ background: {p.colour}; }}'''
        for p in PRIORITIES.values()
    )
}
</style>
"""


def grid(tiles: Iterable[Tile], now: datetime, zone: ZoneInfo) -> str:
    """A wrapping grid of tiles; each links to its patient's page."""
    return f'<div class="ward-grid">{"".join(tile_html(tile, now, zone) for tile in tiles)}</div>'


def tile_html(tile: Tile, now: datetime, zone: ZoneInfo) -> str:
    """One tile: bed and patient, NEWS2, open alerts, the five signals, when."""
    alerts = "".join(
        f'<div class="ward-alert ward-{priority}" title="{priority} priority, {state}">'
        f"{PRIORITIES[priority].mark} {escape(title)}{_TAKEN_ON if state == State.ACKNOWLEDGED else ''}</div>"
        for priority, title, state in tile.alerts
    )
    signals = "".join(
        _signal(label, value, readings, now)
        for label, value, readings in (
            ("HR", _number(tile, "heart_rate", 0), _seen(tile, "heart_rate")),
            ("SpO\N{SUBSCRIPT TWO}", _number(tile, "spo2", 0), _seen(tile, "spo2")),
            ("RR", _number(tile, "respiratory_rate", 0), _seen(tile, "respiratory_rate")),
            (
                "BP",
                f"{_number(tile, 'systolic_bp', 0)}/{_number(tile, 'diastolic_bp', 0)}",
                _seen(tile, "systolic_bp", "diastolic_bp"),
            ),
            ("Temp", _number(tile, "temperature", 1), _seen(tile, "temperature")),
        )
    )
    bed = f"Bed {escape(tile.bed)}" if tile.bed else "No bed known"
    return (
        f'<a class="ward-tile ward-{tile.priority or "quiet"}" href="patient?id={quote(tile.patient_id, safe="")}"'
        f' target="_self"><div class="ward-head"><span class="ward-bed">{bed}</span>'
        f'<span class="ward-muted ward-id">{escape(tile.patient_id)}</span></div>{_news2(tile)}{alerts}'
        f'<div class="ward-signals">{signals}</div>'
        f'<div class="ward-muted">{moment(tile.newest, zone, now)}, {ago(tile.newest, now)}</div></a>'
    )


def _news2(tile: Tile) -> str:
    score = tile.news2
    if score is None:
        return ""
    risk = f"{score.risk} risk" if score.risk else "risk open: a part is not known"
    arrow = f" {score.trend}" if score.trend else ""
    went = f", {_WENT[score.trend]} within the hour" if score.trend else ""
    mark = _RISK_MARKS.get(score.risk or "", "")
    return (
        f'<div class="ward-news2" title="NEWS2 {score.words}, {risk}{went}">NEWS2 '
        f'<span class="{mark}">{score.words}{arrow}</span> <span class="ward-muted">{risk}</span></div>'
    )


def _seen(tile: Tile, *names: str) -> list[Reading]:
    return [tile.readings[code(name)] for name in names if code(name) in tile.readings]


def _number(tile: Tile, name: str, decimals: int) -> str:
    reading = tile.readings.get(code(name))
    return f"{reading.value:.{decimals}f}" if reading and isinstance(reading.value, float | int) else _DASH


def _signal(label: str, value: str, readings: list[Reading], now: datetime) -> str:
    classes = ["ward-value"]
    notes = [f"{label} {value}"]
    bands = {reading.band for reading in readings}
    if "breach" in bands:
        classes.append("ward-breach")
        notes.append("beyond a limit")
    elif "margin" in bands:
        classes.append("ward-margin")
        notes.append("close to a limit")
    if readings and now - max(reading.observed_at for reading in readings) > STALE:
        classes.append("ward-stale")
        notes.append(ago(max(reading.observed_at for reading in readings), now))
    faults = [reading.fault.replace("_", " ") for reading in readings if reading.fault]
    notes += [f"newer value unusable: {fault}" for fault in faults]
    return (
        f'<span class="ward-signal" title="{escape(", ".join(notes))}"><span class="ward-label">{label}</span>'
        f'<span class="{" ".join(classes)}">{value}{"<sup>?</sup>" if faults else ""}</span></span>'
    )
