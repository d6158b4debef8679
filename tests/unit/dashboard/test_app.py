"""Pages rendered by Streamlit's own test runner over small Delta tables, without a gateway unless a test starts one."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dashboard.palette import ARTEFACT, UNUSUAL
from lakehouse import audit, link
from lakehouse.datadir import DataDir
from lakehouse.scores import PARTS
from lakehouse.tables import (
    ALERT,
    ALERT_EVENT,
    CLINICAL_RESOURCE,
    EARLY_WARNING_SCORE,
    OBSERVATION,
    RISK_SCORE,
    VITAL_SIGN_MINUTE,
)
from tests.fixtures import trends as trend_rows

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_GATEWAY = "http://127.0.0.1:1"
Write = Callable[..., None]


def _ward(root: str, gateway: str, now: "datetime") -> None:
    from pathlib import Path

    from dashboard.app import render
    from lakehouse.datadir import DataDir

    render(DataDir(Path(root)), gateway, lambda: now)


def _patient(root: str, now: "datetime") -> None:
    from pathlib import Path

    from alerting import pack
    from dashboard.clock import zone
    from dashboard.views import patient
    from lakehouse.datadir import DataDir

    patient.page(DataDir(Path(root)), pack.load(), lambda: now, zone("Europe/London"))


def _trends(root: str, now: "datetime") -> None:
    from pathlib import Path

    from alerting import pack
    from dashboard.access import LOCAL
    from dashboard.clock import zone
    from dashboard.views import trends
    from lakehouse.datadir import DataDir

    trends.page(DataDir(Path(root)), pack.load(), lambda: now, zone("Europe/London"), LOCAL)


def trends_page(data: DataDir, now: datetime) -> "AppTest":
    return run_page(_trends, {"root": str(data.root), "now": now})


def ward_page(data: DataDir, gateway: str = NO_GATEWAY) -> "AppTest":
    return run_page(_ward, {"root": str(data.root), "gateway": gateway, "now": NOON})


def patient_page(data: DataDir, **query: str) -> "AppTest":
    return run_page(_patient, {"root": str(data.root), "now": NOON}, **query)


def run_page(script: Callable[..., None], arguments: dict[str, Any], **query: str) -> "AppTest":
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_function(script, default_timeout=30, kwargs=arguments)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert [error.value for error in app.exception] == []
    return app


def html(app: "AppTest") -> str:
    return "".join(element.proto.body for element in app.get("html"))


def texts(app: "AppTest") -> list[str]:
    return [element.value for element in [*app.subheader, *app.markdown, *app.caption, *app.info]]


def minute(patient_id: str, minutes_ago: int, value: float, code: str = "8867-4") -> dict[str, Any]:
    statistics = dict.fromkeys(("min", "mean", "max", "first", "last"), value)
    at = NOON - timedelta(minutes=minutes_ago)
    return {"patient_id": patient_id, "code": code, "minute": at, "unit": "/min", "count": 60, **statistics}


def place(patient_id: str, unit: str, bed: str) -> dict[str, Any]:
    return {"patient_id": patient_id, "location_unit": unit, "location_bed": bed, "observed_at": NOON}


def alert(patient_id: str) -> dict[str, Any]:
    at = NOON - timedelta(minutes=5)
    return {
        "alert_id": f"alert of {patient_id}",
        "sequence": 0,
        "state": "active",
        "rule_id": "heart-rate-high",
        "title": "Heart rate high",
        "pack": "adult@1",
        "priority": "medium",
        "category": "physiological",
        "patient_id": patient_id,
        "code": "8867-4",
        "value": 131.0,
        "limit_value": 120.0,
        "observed_at": at,
        "emitted_at": at,
    }


@contextmanager
def gateway_that_answers(body: object) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_before_anything_is_stored_every_page_says_how_to_start(data: DataDir) -> None:
    for page in (ward_page(data), patient_page(data), trends_page(data, NOON)):
        assert page.markdown[0].value == "#### Nothing has been stored yet"
        assert "`ward up`" in page.markdown[1].value


def test_the_ward_shows_patients_by_unit_in_order_of_need_with_their_alerts(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 1, 70.0), minute("a/2", 1, 131.0), minute("a/3", 1, 71.0))
    write(OBSERVATION, place("a/1", "ICU", "1"), place("a/2", "ICU", "2"), place("a/3", "CARD", "1"))
    write(ALERT_EVENT, alert("a/2"))

    page = ward_page(data)

    assert [(metric.label, metric.value) for metric in page.metric] == [
        ("Patients", "3"),
        ("!!! High priority alerts", "0"),
        ("!! Medium priority alerts", "1"),
        ("! Low priority alerts", "0"),
        ("Newest value", "11:59 UTC"),
    ]
    assert [heading.value for heading in page.subheader] == ["CARD (1)", "ICU (2)", "Open alerts (1)"]
    assert html(page).index("id=a%2F2") < html(page).index("id=a%2F1")
    assert page.dataframe[0].value.to_dict("records") == [
        {
            "Priority": "!! medium",
            "Unit": None,
            "Bed": None,
            "Patient": "a/2",
            "Alert": "Heart rate high",
            "Value": 131.0,
            "Limit": 120.0,
            "State": "active",
            "Opened": "11:55 UTC, 5 min ago",
        }
    ]
    assert page.info[0].value.startswith("The gateway does not answer")


def score(patient_id: str, total: int, minutes_ago: int) -> dict[str, Any]:
    """A whole NEWS2 with the points of two parts."""
    return {
        "patient_id": patient_id,
        "score": "news2",
        "observed_at": NOON - timedelta(minutes=minutes_ago),
        **dict.fromkeys(("total", "total_min", "total_max"), total),
        "risk": "medium",
        "parts": {**dict.fromkeys(PARTS), "heart_rate": 2, "spo2": total - 2},
    }


def test_the_ward_shows_where_each_news2_goes_and_puts_the_higher_one_first(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 1, 70.0), minute("a/2", 1, 70.0))
    write(OBSERVATION, place("a/1", "ICU", "1"), place("a/2", "ICU", "2"))
    write(EARLY_WARNING_SCORE, score("a/2", 3, 90), score("a/2", 5, 10), score("a/1", 3, 90))

    page = html(ward_page(data))

    assert page.index("id=a%2F2") < page.index("id=a%2F1")
    assert 'title="NEWS2 5, medium risk, risen within the hour"' in page
    assert 'title="NEWS2 3, medium risk, the same within the hour"' in page


def test_a_patients_page_has_news2_with_its_parts_and_the_records_of_other_systems(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 3, 70.0))
    write(EARLY_WARNING_SCORE, score("a/1", 3, 90), score("a/1", 5, 10))
    known = {"patient_id": "a/1", "resource_type": "Condition", "resource_id": "ehr/1", "topic": "clinical.resource"}
    versions = {"recorded": ("active", 2), "over": ("resolved", 1)}
    write(
        CLINICAL_RESOURCE,
        *(
            {
                **known,
                "resource": json.dumps(
                    {"resourceType": "Condition", "code": {"text": "Asthma"}, "clinicalStatus": {"text": status}}
                ),
                "recorded_at": NOON - timedelta(hours=hours),
                "version": name.encode(),
            }
            for name, (status, hours) in versions.items()
        ),
    )

    page = patient_page(data, id="a/1")

    charts = [json.loads(chart.proto.spec) for chart in page.get("vega_lite_chart")]
    assert [chart["title"]["text"] for chart in charts] == ["NEWS2", "Heart rate (/min)"]
    assert page.caption[1].value.startswith("5 since 11:50 GMT: respiratory rate \N{EN DASH}, spo2 3, oxygen")
    assert [heading.value for heading in page.subheader] == [
        "Alerts in this span (0)",
        "Unusual for this patient (0), artefacts (0)",
        "Records (1)",
    ]
    assert page.dataframe[0].value.to_dict("records") == [
        {"Kind": "Condition", "What": "Asthma", "Status": "resolved", "When": None}
    ]


def test_a_patients_page_has_the_risk_of_the_model_in_service_and_what_it_rests_on(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 1, 80.0))
    reasons = [
        {"feature": "heart_rate_last_24h", "value": 131.0, "log_odds": 0.8},
        {"feature": "age", "value": None, "log_odds": -0.1},
    ]
    write(RISK_SCORE, *(risk(minutes_ago, 0.2 + 0.01 * minutes_ago, reasons) for minutes_ago in (20, 4)))
    write(RISK_SCORE, risk(3, 0.9, reasons, role="shadow"), risk(3, 0.9, reasons, patient_id="a/2"))

    app = patient_page(data, id="a/1")

    charts = [json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart")]
    assert [chart["title"]["text"] for chart in charts] == [
        "Risk by the model in service (%)",
        "Heart rate (/min)",
    ]
    told = next(one.value for one in app.caption if "version 3" in one.value)
    assert told.startswith("24 % at ")
    assert "death within 24 hours, version 3. It rests most on heart rate last 24h 131" in told
    assert "age not known" in told


def test_a_patients_page_shows_what_is_unusual_for_them_and_artefacts(data: DataDir, write: Write) -> None:
    usual = [minute("a/1", ago, 80.0 + ago % 3) for ago in range(11, 120)]
    write(VITAL_SIGN_MINUTE, *usual, *(minute("a/1", ago, 131.0) for ago in range(6, 11)))
    write(VITAL_SIGN_MINUTE, *(minute("a/1", ago, 97.0, "59408-5") for ago in (*range(1, 6), *range(20, 120))))

    app = patient_page(data, id="a/1")

    assert "Unusual for this patient (1), artefacts (2)" in [heading.value for heading in app.subheader]
    assert app.dataframe[0].value.to_dict("records") == [
        {"Begun": "11:41 GMT", "Minutes": 14, "Signal": "SpO2 (pulse oximetry)", "Finding": "sensor off"},
        {"Begun": "11:50 GMT", "Minutes": 5, "Signal": "Heart rate", "Finding": "unusual: 131, usual 81"},
        {"Begun": "11:55 GMT", "Minutes": 5, "Signal": "Heart rate", "Finding": "sensor off"},
    ]
    (heart_rate,) = (
        spec
        for spec in (json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart"))
        if spec["title"]["text"] == "Heart rate (/min)"
    )
    assert [layer["mark"]["color"] for layer in heart_rate["layer"][:2]] == [UNUSUAL, ARTEFACT]


def risk(minutes_ago: int, value: float, reasons: list[dict[str, Any]], **changes: str) -> dict[str, Any]:
    at = NOON - timedelta(minutes=minutes_ago)
    usual = {"patient_id": "a/1", "model": "death-within-24-hours", "role": "in_service"}
    return {**usual, "landmark_at": at, "model_version": 3, "risk": value, "contributions": reasons, **changes}


def test_choosing_a_unit_leaves_the_others_out(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 1, 70.0), minute("a/3", 1, 71.0))
    write(OBSERVATION, place("a/1", "ICU", "1"), place("a/3", "CARD", "1"))
    write(ALERT_EVENT, alert("a/3"))

    page = ward_page(data).segmented_control(key="unit").set_value("ICU").run()

    assert [heading.value for heading in page.subheader] == ["ICU (1)", "Open alerts (0)"]


def test_live_values_of_the_gateway_come_before_stored_ones(data: DataDir, write: Write) -> None:
    write(ALERT_EVENT, alert("a/1"))
    live = {
        "patient_id": "a/1",
        "location": {"unit": "ICU", "bed": "1"},
        "readings": [
            {
                "code": "8867-4",
                "value": 133.0,
                "band": "breach",
                "fault": None,
                "observed_at": "2026-03-01T11:59:59.500Z",
            },
            {"code": "67775-7", "value": "A", "band": "normal", "fault": None, "observed_at": "2026-03-01T11:59:59Z"},
        ],
    }

    with gateway_that_answers({"patients": [live]}) as gateway:
        page = ward_page(data, gateway)

    assert ">133<" in html(page)
    assert "11:59 UTC, 0 s ago" in html(page)
    assert list(page.info) == []


def test_a_ward_that_hears_nothing_says_so(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 16, 70.0))
    write(OBSERVATION, place("a/1", "ICU", "1"))
    write(ALERT_EVENT, alert("a/1"))

    page = ward_page(data)

    assert page.markdown[0].value == "#### No patient is being monitored"
    assert page.markdown[1].value == (
        "Nothing was received within the last 15 min. If devices are sending, look at `ward status`."
    )


def test_a_patients_page_charts_each_signal_and_lists_the_alerts(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 3, 70.0), minute("a/1", 2, 131.0), minute("a/1", 2, 16.0, "9279-1"))
    write(ALERT_EVENT, alert("a/1"))

    page = patient_page(data, id="a/1")

    charts = [json.loads(chart.proto.spec) for chart in page.get("vega_lite_chart")]
    assert [chart["title"]["text"] for chart in charts] == ["Heart rate (/min)", "Respiratory rate (/min)"]
    assert page.caption[0].value.startswith(
        "From 05:59 GMT to 11:59 GMT; last value 2 min ago; times are Europe/London."
    )
    assert page.dataframe[0].value.to_dict("records") == [
        {
            "Priority": "!! medium",
            "Alert": "Heart rate high",
            "Value": 131.0,
            "Started": "11:55 GMT",
            "Resolved": "open",
        }
    ]


def test_a_patient_nobody_knows_is_said_to_be_unknown(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 3, 70.0))

    page = patient_page(data, id="nobody/1")

    assert "#### No value of this patient is stored" in texts(page)


def test_a_patient_of_whom_no_alert_was_ever_stored_has_a_page_too(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 3, 70.0))

    page = patient_page(data, id="a/1")

    assert page.subheader[0].value == "Alerts in this span (0)"


def test_what_a_patients_page_shows_is_offered_as_files(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 3, 70.0))

    page = patient_page(data, id="a/1")

    assert [button.proto.label for button in page.get("download_button")] == ["PDF", "PNG", "CSV"]


def test_a_week_of_a_unit_stands_against_another_with_what_its_figures_lack(data: DataDir, write: Write) -> None:
    monday = trend_rows.MONDAY
    for start in (monday, monday - timedelta(days=7)):
        write(VITAL_SIGN_MINUTE, *trend_rows.minutes("a", start, *[70.0, 130.0] * 30))
        write(OBSERVATION, trend_rows.told("a", "ICU", start))
    write(ALERT, trend_rows.alert("a", monday, 90.0))

    page = trends_page(data, monday + timedelta(days=8))

    assert [(box.label, box.value) for box in page.selectbox] == [
        ("Unit", "ICU"),
        ("Week", "2026-W10"),
        ("Against", "2026-W09"),
    ]
    assert [(metric.label, metric.value, metric.delta) for metric in page.metric] == [
        ("Patients", "1", "2026-W09: 1"),
        ("Patient-days", "0.0", "2026-W09: 0.0"),
        ("Minutes with a value", "100.0 %", "2026-W09: 100.0 %"),
        ("Hours with NEWS2 5 or more", "\N{EN DASH}", ""),
        ("Alerts per patient-day", "24.0", ""),
        ("Median time to acknowledge", "1 min 30 s", ""),
    ]
    assert "- 6 days of 7 without any value of this unit." in page.info[0].value
    assert [heading.value for heading in page.subheader] == ["By day and hour", "By day", "By rule"]
    assert [button.proto.label for button in page.get("download_button")] == ["Report as PDF", "Figures as CSV"]

    page.segmented_control(key="by_hour").set_value("heart_rate").run()

    charts = [json.loads(chart.proto.spec) for chart in page.get("vega_lite_chart")]
    assert [chart["title"]["text"] for chart in charts[:2]] == [
        "Mon 2 to Sun 8 Mar 2026 (2026-W10)",
        "Mon 23 Feb 2026 to Sun 1 Mar 2026 (2026-W09)",
    ]


def test_a_week_without_a_value_says_so_and_how_new_the_newest_is(data: DataDir, write: Write) -> None:
    monday = trend_rows.MONDAY
    write(VITAL_SIGN_MINUTE, *trend_rows.minutes("a", monday - timedelta(days=14), 70.0))
    write(VITAL_SIGN_MINUTE, *trend_rows.minutes("a", monday, 70.0))
    write(OBSERVATION, trend_rows.told("a", "ICU", monday))

    page = trends_page(data, monday + timedelta(days=8)).selectbox(key="week").set_value("2026-W09").run()

    assert page.markdown[0].value == "#### Nothing is stored of this unit in this week"
    assert page.markdown[1].value == "The newest value of any unit is of 2026-03-02 00:00 GMT. Choose another."


def noted(data: DataDir) -> list[dict[str, Any]]:
    """What the pages have noted for the audit, without instants and ids."""
    records = [json.loads(value) for _, _, value in audit.noted(data)]
    return [{k: v for k, v in one.items() if k not in ("at", "event_id", "schema_version")} for one in records]


def entering(data: DataDir, entry: str, now: datetime = NOON, **query: str) -> "AppTest":
    return run_page(_entering, {"root": str(data.root), "entry": entry, "now": now}, **query)


def _entering(root: str, entry: str, now: "datetime") -> None:
    from pathlib import Path

    from dashboard.app import render
    from lakehouse.datadir import DataDir

    render(DataDir(Path(root)), "http://127.0.0.1:1", lambda: now, entry=entry)


def test_one_look_at_a_patient_is_one_record_however_often_the_page_renews_itself(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 5, 70.0))
    page = patient_page(data, id="a/1")
    page.run()
    look = {"application": "dashboard", "actor_kind": "local", "actor": "local", "patient_id": "a/1"}
    assert noted(data) == [{**look, "action": "look at the page Patient", "outcome": "done"}]


def test_a_link_opens_the_page_of_its_patient_alone_until_it_is_over(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 5, 70.0), minute("a/2", 5, 70.0))
    token = link.make(data, "a/1", NOON + timedelta(hours=8))

    opened = entering(data, "link", link=token, id="a/2")
    over = entering(data, "link", NOON + timedelta(hours=8), link=token)
    broken = entering(data, "open", link=token[:-9] + "AAAAAAAA=")
    without = entering(data, "link")

    assert [title.value for title in opened.title] == ["Patient"]
    assert [box.value for box in opened.selectbox] == []
    assert opened.subheader[0].value == "a/1"
    assert [[title.value for title in page.title] for page in (over, broken, without)] == [[], [], []]
    assert [page.markdown[0].value for page in (over, broken, without)] == [
        "#### This link opens nothing",
        "#### This link opens nothing",
        "#### A link is needed",
    ]
    assert [(one["actor_kind"], one.get("patient_id"), one["outcome"]) for one in noted(data)] == [
        ("link", "a/1", "done"),
        ("link", None, "refused"),
        ("link", None, "refused"),
    ]
    assert "a/1" not in token


def test_nothing_of_a_patient_is_shown_where_it_cannot_be_recorded(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, minute("a/1", 5, 70.0))
    data.access.write_text("a file where the folder must be")
    page = patient_page(data, id="a/1")
    assert "#### It cannot be recorded that you look" in texts(page)
    assert not page.get("vega_lite_chart")
