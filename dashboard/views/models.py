"""Page Models: versions of the model of risk, how good each is beside NEWS2, its calibration and its drift."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd  # noqa: TID253 - only a running Streamlit imports this package
import streamlit as st  # noqa: TID253 - as above

from dashboard import model_charts, models
from dashboard.clock import ago, moment
from dashboard.models import Known
from dashboard.views.states import empty
from lakehouse.datadir import DataDir
from lakehouse.models.artefact import ModelFileError
from lakehouse.models.registry import IN_SERVICE, SHADOW, Registered, RegistryError

KEPT_S = 60
_ALERTS = "Alerts a patient and day"
_ROLES = {IN_SERVICE: "in service", SHADOW: "in its shadow"}


def page(data: DataDir, tracking_uri: str | None, clock: Callable[[], datetime], zone: ZoneInfo) -> None:
    """Render the page."""
    st.title("Models")
    try:
        found = _versions(str(data.root), tracking_uri)
        if not found:
            empty(
                "No model has been trained",
                "`ward model train` makes one out of the cohorts; docs/models.md says what it is, and what it is not.",
            )
            return
        version = _choose(found)
        _content(_known(str(data.root), tracking_uri, version.version), clock(), zone)
    except (RegistryError, ModelFileError) as error:
        empty("What is registered cannot be read", f"{error}.")


@st.cache_data(ttl=KEPT_S, show_spinner="Reading the registry")
def _versions(root: str, tracking_uri: str | None) -> list[Registered]:
    return models.versions(DataDir(Path(root)), tracking_uri)


@st.cache_data(ttl=KEPT_S, show_spinner="Reading the registry")
def _known(root: str, tracking_uri: str | None, version: int) -> Known:
    return models.known(DataDir(Path(root)), tracking_uri, version)


def _choose(found: list[Registered]) -> Registered:
    by_name = {_name(one): one for one in found}
    first = next((name for name, one in by_name.items() if IN_SERVICE in one.aliases), next(iter(by_name)))
    chosen = st.selectbox("Version", list(by_name), index=list(by_name).index(first), key="version")
    return by_name[chosen]


def _name(one: Registered) -> str:
    roles = [words for alias, words in _ROLES.items() if alias in one.aliases]
    return ", ".join([f"{one.version} of {one.created_at:%Y-%m-%d}", *roles])


def _content(known: Known, now: datetime, zone: ZoneInfo) -> None:
    evaluation = known.evaluation
    above = models.against_news2(evaluation)
    st.subheader(f"Risk of {evaluation.outcome.event}")
    if evaluation.outcome.simulated:
        st.warning(
            "Simulated: it learned what a program makes up, and says nothing of real patients.",
            icon=":material/science:",
        )
    with st.container(horizontal=True, gap="medium"):
        st.metric("AUROC above NEWS2", f"{above:+.3f}", width="content")
        st.metric("Calibration error", f"{evaluation.calibration_error:.3f}", width="content")
        st.metric("Landmarks", f"{evaluation.landmarks:,}", width="content")
        st.metric("Patients", f"{evaluation.patients:,}", width="content")
        st.metric("Of them with event", f"{evaluation.patients_with_event:,}", width="content")
    st.caption(
        "Of patients whom the model had not seen. Intervals resample patients; alerts and hours are at the sensitivity"
        " that a NEWS2 of 7 has on the same landmarks. For research; not a medical device."
    )
    st.dataframe(
        models.performances(evaluation),
        hide_index=True,
        width="stretch",
        column_config={
            **{name: st.column_config.NumberColumn(format="%.3f") for name in ("AUROC", "AUPRC")},
            **{name: st.column_config.NumberColumn(format="%.2f") for name in ("Sensitivity", _ALERTS)},
            "Hours ahead": st.column_config.NumberColumn(format="%.1f", help="Median, from the first alert on"),
        },
    )
    left, right = st.columns(2)
    with left:
        _calibration(known)
    with right:
        _drift(known, now, zone)
    _subgroups(known)
    with st.expander("Card"):
        st.markdown(known.card)


def _calibration(known: Known) -> None:
    st.altair_chart(model_charts.calibration(known.evaluation.tenths), width="stretch")
    st.caption("Above the dashed line more had the event than was said, below it fewer.")


def _drift(known: Known, now: datetime, zone: ZoneInfo) -> None:
    if known.looked_at is None:
        empty(
            "Nobody has looked for drift of this version",
            "`ward model drift` holds what it is told now against its training; the DAG `model_drift` does so daily.",
        )
        return
    st.altair_chart(model_charts.moved(known.drift), width="stretch")
    if len(known.risk_looks) > 1:
        st.altair_chart(model_charts.looks(known.risk_looks, zone), width="stretch")
    beyond = int(known.drift["moved"].sum())
    st.caption(
        f"{beyond} of {len(known.drift)} are beyond their limits. Looked at {moment(known.looked_at, zone, now)},"
        f" {ago(known.looked_at, now)}."
    )


def _subgroups(known: Known) -> None:
    st.subheader("By group")
    st.dataframe(
        pd.DataFrame(
            {
                "Group": [one.column.replace("_", " ") for one in known.evaluation.subgroups],
                "": [one.value for one in known.evaluation.subgroups],
                "Landmarks": [one.landmarks for one in known.evaluation.subgroups],
                "Patients": [one.patients for one in known.evaluation.subgroups],
                "With event": [one.patients_with_event for one in known.evaluation.subgroups],
                "AUROC": [one.auroc for one in known.evaluation.subgroups],
            }
        ),
        hide_index=True,
        width="stretch",
        column_config={"AUROC": st.column_config.NumberColumn(format="%.3f")},
    )
    st.caption("No AUROC where fewer than two patients of a group had the event.")
