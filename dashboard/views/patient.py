"""Page Patient: the trend of one patient's signals with limits and alerts."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd  # noqa: TID253 - only a running Streamlit imports this package
import streamlit as st  # noqa: TID253 - as above

from alerting.kinds import LimitRule
from alerting.pack import Pack
from dashboard import access, charts, patient_sheet, queries
from dashboard.clock import ago, moment
from dashboard.news2 import standing, stretches
from dashboard.palette import PRIORITIES
from dashboard.patient_sheet import Sheet
from dashboard.risk import percent, reasons
from dashboard.views.states import empty, explained
from lakehouse import stored_anomalies, stored_risks, stored_scores
from lakehouse.datadir import DataDir
from lakehouse.models.anomaly import Finding, Kind
from lakehouse.reader import TableMissingError
from lakehouse.scores import Score
from lakehouse.stored_minutes import resolution
from lakehouse.vocabulary import signals

SPANS = {
    "1 hour": timedelta(hours=1),
    "6 hours": timedelta(hours=6),
    "24 hours": timedelta(days=1),
    "7 days": timedelta(days=7),
    "4 weeks": timedelta(weeks=4),
}
_LOOKED_OVER = timedelta(days=1)
"""Of how long a span unusual minutes are sought: of a day that takes 0.2 s."""
_MINUTE = timedelta(minutes=1)
_DASH = "\N{EN DASH}"


def page(
    data: DataDir, pack: Pack, clock: Callable[[], datetime], zone: ZoneInfo, who: access.Visitor = access.LOCAL
) -> None:
    """Render the page."""
    st.title("Patient")
    with explained():
        now = clock()
        patient_id = _choose(data, now, who)
        if patient_id is not None and access.looked(data, who, patient_id, now):
            _content(data, pack, patient_id, now, zone)


def _choose(data: DataDir, now: datetime, who: access.Visitor) -> str | None:
    if who.patient_id is not None:
        st.subheader(who.patient_id)
        st.segmented_control("Span", list(SPANS), default="6 hours", key="span")
        return who.patient_id
    known = queries.patients(data, now)["patient_id"].to_list()
    asked = st.query_params.get("id")
    if who.units is not None:
        seen = {patient_id for patient_id, unit in queries.places(data, now).items() if who.sees(unit)}
        known = [patient_id for patient_id in known if patient_id in seen]
        if asked and asked not in seen:
            # The same of a patient of another unit and of nobody: it must not tell who is in the hospital.
            empty("No such patient is in your care units", f"Yours: {', '.join(sorted(who.units)) or 'none'}.")
            return None
    if asked and asked not in known:
        known.insert(0, asked)
    if not known:
        empty("No patient has been seen", "Nothing was stored within the last week. Start the pipeline with `ward up`.")
        return None
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    index = known.index(asked) if asked else 0
    patient_id: str = left.selectbox("Patient", known, index=index, key="patient")
    right.segmented_control("Span", list(SPANS), default="6 hours", key="span")
    st.query_params["id"] = patient_id
    return patient_id


def _content(data: DataDir, pack: Pack, patient_id: str, now: datetime, zone: ZoneInfo) -> None:
    newest = queries.newest_minute(data, patient_id)
    if newest is None:
        empty(
            "No value of this patient is stored",
            "Check the identifier, written as system/value. Who is new to the ward is stored within two minutes.",
        )
        return
    # The span ends at the last value rather than now: a patient who went home, or whose dates are shifted, still shows.
    stop = newest + _MINUTE
    start = stop - SPANS[st.session_state.get("span") or "6 hours"]
    minutes = queries.trend(data, patient_id, start, stop)
    alerts = _alerts(data, patient_id, start, stop)
    st.caption(
        f"From {moment(start, zone, now)} to {moment(stop, zone, now)};"
        f" last value {ago(newest, now)}; times are {zone.key}."
        f" Line: mean of each {resolution(stop - start)}; band: smallest to largest"
        " value; dashed: limits; thick: alerts from their start to their end; a gap is a time without values."
    )
    scores = _scores(data, patient_id, start, stop)
    unit = next((unit for unit in reversed(alerts["unit"].to_list()) if isinstance(unit, str)), None)
    findings = _findings(data, patient_id, start, stop)
    downloads = st.container(horizontal=True)
    shown = []
    if scores:
        shown.append(charts.news2(scores, zone=zone, start=start, stop=stop))
        st.altair_chart(shown[-1], width="stretch")
        st.caption(_parts(scores[-1], zone, now))
    if risks := _risks(data, patient_id, start, stop):
        shown.append(charts.risk(risks, zone=zone, start=start, stop=stop))
        st.altair_chart(shown[-1], width="stretch")
        st.caption(_why(risks[-1], zone, now))
    for signal in signals():
        of_signal = minutes[minutes["code"] == signal.code]
        if of_signal.empty:
            continue
        rules = [rule for rule in pack.limit_rules(signal.code) if isinstance(rule, LimitRule)]
        chart = charts.trend(
            of_signal,
            [charts.Limit(rule.limit_in(unit), rule.title, rule.priority) for rule in rules],
            alerts[alerts["code"] == signal.code],
            title=signal.display,
            unit=signal.unit,
            zone=zone,
            start=start,
            stop=stop,
            findings=[one for one in findings if one.code == signal.code],
        )
        shown.append(chart)
        st.altair_chart(chart, width="stretch")
    with downloads:
        _downloads(Sheet(patient_id, start, stop, zone, minutes, alerts, scores, shown), now)
    _list(alerts, now, zone)
    if stop - start <= _LOOKED_OVER:
        _unusual(findings, now, zone)
    _records(data, patient_id)


def _downloads(sheet: Sheet, now: datetime) -> None:
    """What is shown, as files; each is made when it is asked for."""
    kinds = (
        ("PDF", "application/pdf", ":material/picture_as_pdf:", lambda: patient_sheet.pdf(sheet, now)),
        ("PNG", "image/png", ":material/image:", lambda: patient_sheet.png(sheet)),
        ("CSV", "text/csv", ":material/table:", lambda: patient_sheet.csv(sheet)),
    )
    for name, mime, icon, make in kinds:
        file = f"{sheet.file_name}.{name.lower()}"
        st.download_button(name, make, file, mime, on_click="ignore", icon=icon, key=f"as_{name}")


def _alerts(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> pd.DataFrame:
    try:
        return queries.alerts_of(data, patient_id, start, stop)
    except TableMissingError:
        return pd.DataFrame(columns=["code", "title", "priority", "started_at", "resolved_at", "value", "unit"])


def _scores(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> list[dict[str, Any]]:
    try:
        changes = stored_scores.series(data, patient_id, Score.NEWS2, start, stop)
    except TableMissingError:
        return []
    return stretches(changes, start, stop)


def _risks(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> list[dict[str, Any]]:
    try:
        return stored_risks.series(data, patient_id, start, stop)
    except TableMissingError:
        return []


def _findings(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> list[Finding]:
    return stored_anomalies.series(data, patient_id, start, stop) if stop - start <= _LOOKED_OVER else []


def _unusual(findings: list[Finding], now: datetime, zone: ZoneInfo) -> None:
    """What was far from what is usual for this patient, and what was only an artefact."""
    unusual = sum(one.kind is Kind.UNUSUAL for one in findings)
    st.subheader(f"Unusual for this patient ({unusual}), artefacts ({len(findings) - unusual})")
    if not findings:
        st.caption("None.")
        return
    names = {signal.code: signal.display for signal in signals()}
    st.dataframe(
        pd.DataFrame(
            {
                "Begun": [moment(one.begin, zone, now) for one in findings],
                "Minutes": [round((one.end - one.begin) / _MINUTE) for one in findings],
                "Signal": [names.get(one.code, one.code) for one in findings],
                "Finding": [one.words for one in findings],
            }
        ),
        hide_index=True,
        width="stretch",
    )
    st.caption(
        "Held against the four hours before; tinted in the charts, artefacts of sensors as a strip at the foot."
        " Nobody is called by these."
    )


def _why(newest: dict[str, Any], zone: ZoneInfo, now: datetime) -> str:
    """What the newest risk is of, and what it rests on most."""
    return (
        f"{percent(newest['risk'])} at {moment(newest['landmark_at'], zone, now)}: {newest['model'].replace('-', ' ')},"
        f" version {newest['model_version']}. It rests most on {reasons(newest)}. For research; not a medical device."
    )


def _parts(newest: dict[str, Any], zone: ZoneInfo, now: datetime) -> str:
    """What the newest total is made of."""
    parts = ", ".join(
        f"{name.replace('_', ' ')} {_DASH if points is None else points}" for name, points in newest["parts"].items()
    )
    total = standing(newest, None).words
    return (
        f"{total} since {moment(newest['observed_at'], zone, now)}: {parts}. {_DASH} is not known; band: between these."
    )


def _records(data: DataDir, patient_id: str) -> None:
    """Conditions, appointments, prescriptions and documents, as the hospital's systems sent them."""
    try:
        records = queries.records_of(data, patient_id)
    except TableMissingError:
        records = []
    st.subheader(f"Records ({len(records)})")
    if not records:
        st.caption(
            "None. What FHIR brings beside vital signs stands here: conditions, allergies, appointments, prescriptions."
        )
        return
    table = pd.DataFrame([asdict(one) for one in records]).rename(columns=str.capitalize)
    st.dataframe(table, hide_index=True, width="stretch")


def _list(alerts: pd.DataFrame, now: datetime, zone: ZoneInfo) -> None:
    st.subheader(f"Alerts in this span ({len(alerts)})")
    if alerts.empty:
        st.caption("None.")
        return
    st.dataframe(
        pd.DataFrame(
            {
                "Priority": [f"{PRIORITIES[name].mark} {name}" for name in alerts["priority"]],
                "Alert": alerts["title"],
                "Value": alerts["value"],
                "Started": [moment(instant, zone, now) for instant in alerts["started_at"]],
                "Resolved": [
                    "open" if pd.isna(instant) else moment(instant, zone, now) for instant in alerts["resolved_at"]
                ],
            }
        ),
        hide_index=True,
        width="stretch",
        column_config={"Value": st.column_config.NumberColumn(format="%.1f")},
    )
