"""The dashboard: a Streamlit script with its arguments behind it.

``app.py DATA_DIR GATEWAY_URL ENTRY KEY_FILE BROKERS TOPICS PROVIDER MODELS``: ENTRY as dashboard.access has it;
KEY_FILE may be empty; PROVIDER is JSON, a lakehouse.claims.Provider or null; MODELS is the address of an MLflow server,
empty for the registry of the data dir.
"""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from dashboard.desk import Brokers
from lakehouse.caller import Scope
from lakehouse.claims import Provider
from lakehouse.datadir import DataDir

if TYPE_CHECKING:
    from alerting.pack import Pack

# Streamlit leaves a fifth of a laptop's screen free above the title.
_STYLE = '<style>[data-testid="stMainBlockContainer"] { padding-top: 3.5rem; }</style>'


@cache
def rules() -> "Pack":
    """The rules whose limits pages show. Read once a process: that takes 80 ms, and a page runs with each click."""
    from alerting import pack

    return pack.load()


def render(
    data: DataDir,
    gateway: str,
    clock: Callable[[], datetime],
    brokers: Brokers | None = None,
    entry: str = "open",
    key_file: Path | None = None,
    provider: Provider | None = None,
    tracking_uri: str | None = None,
) -> None:
    """Render the page that the address names; by the key in ``key_file`` the gateway is asked.

    Without ``brokers`` alerts are stored ones, and cannot be answered.
    """
    import streamlit as st

    from alerting.bands import arms
    from dashboard import access, live
    from dashboard.clock import zone
    from dashboard.views import alerts, burden, models, patient, quality, research, trends, ward
    from dashboard.views.states import empty

    st.set_page_config(page_title="Wardhouse", page_icon=":material/monitor_heart:", layout="wide")
    st.html(_STYLE)
    who = access.visitor(data, access.Entry(entry), provider, clock())
    if who is None:
        return
    here = zone(st.context.timezone)
    of_patient = partial(patient.page, data, rules(), clock, here, who)
    if who.patient_id is not None:
        st.navigation([st.Page(of_patient, title="Patient", default=True)], position="hidden").run()
        return
    reads = [
        st.Page(
            partial(ward.page, data, live.Gateway(gateway, key_file), arms(rules()), clock, here, who),
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
            partial(alerts.page, data, brokers, clock, here, who),
            title="Alerts",
            icon=":material/notifications:",
            url_path="alerts",
        ),
        st.Page(
            partial(trends.page, data, rules(), clock, here, who),
            title="Trends",
            icon=":material/calendar_view_week:",
            url_path="trends",
        ),
        st.Page(
            partial(burden.page, data, rules(), clock, here, who),
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
    ]
    researches = [
        st.Page(
            partial(research.page, data, clock, here),
            title="Research",
            icon=":material/science:",
            url_path="research",
        ),
        st.Page(
            partial(models.page, data, tracking_uri, clock, here),
            title="Models",
            icon=":material/model_training:",
            url_path="models",
        ),
    ]
    pages = [*(reads if who.may(Scope.READ) else ()), *(researches if who.may(Scope.RESEARCH) else ())]
    if not pages:
        empty("No page is open to you", "You are signed in, without a role that opens one: ask who runs this.")
        return
    st.navigation(pages, position="top").run()


if __name__ == "__main__":
    _, root, address, entry, key, servers, topics, claims, registry = sys.argv
    brokers, provider = Brokers(servers, json.loads(topics)), TypeAdapter(Provider | None).validate_json(claims)
    key_file = Path(key) if key else None
    now = partial(datetime.now, UTC)
    render(DataDir(Path(root)), address, now, brokers, entry, key_file, provider, registry or None)
