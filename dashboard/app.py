"""The dashboard: a Streamlit script with its arguments behind it: ``app.py DATA_DIR GATEWAY_URL BROKERS TOPICS``."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from dashboard.desk import Brokers
from lakehouse.datadir import DataDir

# Streamlit leaves a fifth of a laptop's screen free above the title.
_STYLE = '<style>[data-testid="stMainBlockContainer"] { padding-top: 3.5rem; }</style>'


def render(data: DataDir, gateway: str, clock: Callable[[], datetime], brokers: Brokers | None = None) -> None:
    """Render the page that the address names. Without ``brokers`` alerts are stored ones, and cannot be answered."""
    import streamlit as st

    from alerting import pack
    from alerting.bands import arms
    from dashboard.clock import zone
    from dashboard.views import alerts, burden, patient, quality, research, trends, ward

    st.set_page_config(page_title="Wardhouse", page_icon=":material/monitor_heart:", layout="wide")
    st.html(_STYLE)
    rules = pack.load()
    here = zone(st.context.timezone)
    pages = [
        st.Page(
            partial(ward.page, data, gateway, arms(rules), clock, here),
            title="Ward",
            icon=":material/bed:",
            url_path="ward",
            default=True,
        ),
        st.Page(
            partial(patient.page, data, rules, clock, here),
            title="Patient",
            icon=":material/show_chart:",
            url_path="patient",
        ),
        st.Page(
            partial(alerts.page, data, brokers, clock, here),
            title="Alerts",
            icon=":material/notifications:",
            url_path="alerts",
        ),
        st.Page(
            partial(trends.page, data, rules, clock, here),
            title="Trends",
            icon=":material/calendar_view_week:",
            url_path="trends",
        ),
        st.Page(
            partial(burden.page, data, rules, clock, here),
            title="Alarm burden",
            icon=":material/monitoring:",
            url_path="burden",
        ),
        st.Page(
            partial(quality.page, data, clock, here),
            title="Data quality",
            icon=":material/fact_check:",
            url_path="quality",
        ),
        st.Page(
            partial(research.page, data, clock, here),
            title="Research",
            icon=":material/science:",
            url_path="research",
        ),
    ]
    st.navigation(pages, position="top").run()


if __name__ == "__main__":
    _, root, live, servers, topics = sys.argv
    render(DataDir(Path(root)), live, lambda: datetime.now(UTC), Brokers(servers, json.loads(topics)))
