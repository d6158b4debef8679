"""The dashboard: a Streamlit script, ``app.py DATA_DIR GATEWAY_URL ENTRY [KEY_FILE]``; ENTRY as dashboard.access."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lakehouse.datadir import DataDir

# Streamlit leaves a fifth of a laptop's screen free above the title.
_STYLE = '<style>[data-testid="stMainBlockContainer"] { padding-top: 3.5rem; }</style>'


def render(
    data: DataDir, gateway: str, clock: Callable[[], datetime], entry: str = "open", key_file: Path | None = None
) -> None:
    """Render the page that the address names; by the key in ``key_file`` the gateway is asked."""
    import streamlit as st

    from alerting import pack
    from alerting.bands import arms
    from dashboard import access, live
    from dashboard.clock import zone
    from dashboard.views import patient, trends, ward

    st.set_page_config(page_title="Wardhouse", page_icon=":material/monitor_heart:", layout="wide")
    st.html(_STYLE)
    who = access.visitor(data, access.Entry(entry), clock())
    if who is None:
        return
    rules = pack.load()
    here = zone(st.context.timezone)
    of_patient = partial(patient.page, data, rules, clock, here, who)
    if who.patient_id is not None:
        st.navigation([st.Page(of_patient, title="Patient", default=True)], position="hidden").run()
        return
    pages = [
        st.Page(
            partial(ward.page, data, live.Gateway(gateway, key_file), arms(rules), clock, here),
            title="Ward",
            icon=":material/bed:",
            url_path="ward",
            default=True,
        ),
        st.Page(
            of_patient,
            title="Patient",
            icon=":material/show_chart:",
            url_path="patient",
        ),
        st.Page(
            partial(trends.page, data, rules, clock, here),
            title="Trends",
            icon=":material/calendar_view_week:",
            url_path="trends",
        ),
    ]
    st.navigation(pages, position="top").run()


if __name__ == "__main__":
    key = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    render(DataDir(Path(sys.argv[1])), sys.argv[2], lambda: datetime.now(UTC), sys.argv[3], key)
