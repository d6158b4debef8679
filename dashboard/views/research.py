"""Page Research: cohorts with sizes and distributions, and snapshots with their citation."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import altair as alt
import pandas as pd  # noqa: TID253 - only a running Streamlit imports this package
import streamlit as st  # noqa: TID253 - as above

from dashboard import research
from dashboard.clock import moment
from dashboard.palette import LINE
from dashboard.research import Cohort, Distribution
from dashboard.views.states import empty
from lakehouse.datadir import DataDir
from lakehouse.deidentify import SMALL_CELL
from lakehouse.snapshot import Manifest, SnapshotError, snapshots

KEPT_S = 600


def page(data: DataDir, clock: Callable[[], datetime], zone: ZoneInfo) -> None:
    """Render the page."""
    st.title("Research")
    _cohorts(data)
    _snapshots(data, clock(), zone)


@st.cache_data(ttl=KEPT_S, show_spinner="Counting patients")
def _listed(root: str) -> list[Cohort]:
    return research.cohorts(DataDir(Path(root)))


@st.cache_data(ttl=KEPT_S, show_spinner="Counting patients")
def _distribution(root: str, cohort: Cohort, column: str) -> Distribution | None:
    return research.distribution(DataDir(Path(root)), cohort, column)


def _cohorts(data: DataDir) -> None:
    st.subheader("Cohorts")
    found = _listed(str(data.root))
    if not found:
        empty(
            "No cohort has been built",
            "`ward dbt build` makes research tables and cohorts out of what is stored; the DAG of cohorts does so"
            " each night. docs/cohorts.md says what each holds.",
        )
        return
    st.dataframe(
        pd.DataFrame(
            {
                "Table": [one.name for one in found],
                "Patients": ["" if one.patients is None else research.size(one.patients) for one in found],
                "Rows": [_rows(one) for one in found],
                "Version": [one.version for one in found],
            }
        ),
        hide_index=True,
        width="stretch",
    )
    shown = {one.name: one for one in found if one.columns and (one.patients or 0) >= SMALL_CELL}
    if shown:
        _shown(data, shown)
    else:
        st.caption(f"No cohort has {SMALL_CELL} patients, so that no distribution of one is shown.")


def _rows(cohort: Cohort) -> str:
    """Rows of few patients would tell how few."""
    told = cohort.patients is None or cohort.patients >= SMALL_CELL
    return f"{cohort.rows:,}" if told else ""


def _shown(data: DataDir, cohorts: dict[str, Cohort]) -> None:
    left, right = st.columns(2)
    first = next((name for name in cohorts if name.startswith("mart.cohort_")), next(iter(cohorts)))
    name = left.selectbox("Cohort", list(cohorts), index=list(cohorts).index(first), key="cohort", bind="query-params")
    cohort = cohorts[name]
    column = right.selectbox("Distribution of", list(cohort.columns), key="column")
    found = _distribution(str(data.root), cohort, column)
    if found is None:
        empty("Too many different texts", f"{column} names things rather than sorting patients: choose another.")
    elif found.cells.empty:
        empty("Every cell is small", f"No value of {column} is shared by {SMALL_CELL} patients.")
    else:
        st.altair_chart(_chart(found.cells, column), width="stretch")
    if found is not None:
        st.caption(
            f"{research.size(cohort.patients or 0)} patients. Cells of fewer than {SMALL_CELL} are left out, as in an"
            f" export: here {found.left_out}. A patient with several rows counts in each cell they are in."
        )
    st.caption("To read it in Python:")
    st.code(
        "from pathlib import Path\n\nfrom lakehouse import reader\nfrom lakehouse.datadir import DataDir\n\n"
        f'data = DataDir(Path("{data.root}"))\n'
        f'rows = reader.open(data, "{cohort.name}", version={cohort.version}).df()',
        language="python",
    )


def _chart(cells: pd.DataFrame, column: str) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(cells)
        .mark_bar(color=LINE)
        .encode(
            x=alt.X("value:N", sort=list(cells["value"]), title=column, axis=alt.Axis(labelAngle=-30)),
            y=alt.Y("patients:Q", title="patients", axis=alt.Axis(tickMinStep=1)),
            tooltip=["value:N", "patients:Q"],
        )
        .properties(height=280)
    )
    return chart


def _snapshots(data: DataDir, now: datetime, zone: ZoneInfo) -> None:
    st.subheader("Snapshots")
    try:
        found = snapshots(data)
    except SnapshotError as error:
        st.error(f"The list cannot be read: {error}")
        return
    if not found:
        empty(
            "Nothing is pinned yet",
            "`ward snapshot create NAME` pins tables as they stand, with a proof and a citation.",
        )
        return
    newest = found[::-1]
    st.dataframe(
        pd.DataFrame(
            {
                "Snapshot": [one.name for one in newest],
                "Made": [moment(one.created_at, zone, now) for one in newest],
                "Tables": [len(one.tables) for one in newest],
                "Rows": [f"{one.rows:,}" for one in newest],
                "SHA-256": [one.digest for one in newest],
            }
        ),
        hide_index=True,
        width="stretch",
    )
    name = st.selectbox("Snapshot", [one.name for one in newest], key="snapshot", bind="query-params", width=320)
    _cited(data, next(one for one in newest if one.name == name))


def _cited(data: DataDir, manifest: Manifest) -> None:
    plain, bibtex, code = st.tabs(["Citation", "BibTeX", "How to open it"])
    with plain:
        st.code(manifest.citation["plain"], language=None, wrap_lines=True)
    with bibtex:
        st.code(manifest.citation["bibtex"], language="latex", wrap_lines=True)
    with code:
        table = manifest.tables[0].name
        st.code(
            "from pathlib import Path\n\nfrom lakehouse import reader\nfrom lakehouse.datadir import DataDir\n"
            "from lakehouse.snapshot import place_of\n\n"
            f'pinned = place_of(DataDir(Path("{data.root}")), "{manifest.name}")\n'
            f'rows = reader.open(pinned, "{table}").df()',
            language="python",
        )
        st.caption(
            f"`ward snapshot verify {manifest.name}` proves that it is as it was; `ward snapshot export` hands it on,"
            " de-identified."
        )
