"""Pages for somebody who has signed in, and sees the care unit ICU alone."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.datadir import DataDir
from lakehouse.tables import ALERT, ALERT_EVENT, OBSERVATION, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.unit.dashboard.test_app import NOON, alert, html, minute, place, run_page, texts

if TYPE_CHECKING:
    from datetime import datetime

    from streamlit.testing.v1 import AppTest

HIDDEN = "a/hidden"
"""A patient of another unit."""


@pytest.fixture
def data(data: DataDir) -> DataDir:
    """One patient in ICU and one in CARD, each with an open alert."""
    write = partial(append, data)
    write(VITAL_SIGN_MINUTE, minute("a/1", 1, 131.0), minute(HIDDEN, 1, 131.0))
    write(OBSERVATION, place("a/1", "ICU", "1"), place(HIDDEN, "CARD", "1"))
    rows = [{**alert("a/1"), "location_unit": "ICU"}, {**alert(HIDDEN), "location_unit": "CARD"}]
    write(ALERT_EVENT, *rows)
    columns = {column.name for column in ALERT.columns}
    told = {"opened_at": NOON, "active_at": NOON, "changed_at": NOON, "escalations": 0}
    write(ALERT, *({**{k: v for k, v in row.items() if k in columns}, **told} for row in rows))
    return data


def _page(name: str, root: str, now: "datetime", scopes: list[str]) -> None:
    from importlib import import_module
    from pathlib import Path

    from alerting.bands import arms
    from dashboard.access import Visitor
    from dashboard.app import rules
    from dashboard.clock import zone
    from dashboard.live import Gateway
    from lakehouse.caller import Kind, Scope
    from lakehouse.datadir import DataDir

    data, who = DataDir(Path(root)), Visitor(Kind.USER, "ada", frozenset(map(Scope, scopes)), frozenset({"ICU"}))
    given: dict[str, tuple[Any, ...]] = {"ward": (Gateway("http://127.0.0.1:1"), arms(rules())), "alerts": (None,)}
    import_module(f"dashboard.views.{name}").page(
        data, *given.get(name, (rules(),)), lambda: now, zone("Europe/London"), who
    )


@pytest.fixture
def page(data: DataDir) -> "Callable[..., AppTest]":
    """Call it with a page's name and what its address asks for."""

    def run(name: str, **query: str) -> "AppTest":
        return run_page(_page, {"name": name, "root": str(data.root), "now": NOON, "scopes": ["read"]}, **query)

    return run


def test_the_ward_has_the_patients_and_alerts_of_the_unit_alone(page: "Callable[..., AppTest]") -> None:
    ward = page("ward")

    assert (ward.metric[0].value, [heading.value for heading in ward.subheader]) == (
        "1",
        ["ICU (1)", "Open alerts (1)"],
    )
    assert "a/1" in html(ward)
    assert HIDDEN not in html(ward)


def test_a_patient_of_another_unit_is_answered_as_one_whom_nobody_knows(page: "Callable[..., AppTest]") -> None:
    mine, hidden, nobody = (page("patient", id=patient) for patient in ("a/1", HIDDEN, "nobody/1"))

    assert mine.selectbox[0].options == ["a/1"]
    assert [heading.value for heading in mine.subheader] == [
        "Alerts in this span (1)",
        "Unusual for this patient (0), artefacts (0)",
        "Records (0)",
    ]
    assert texts(hidden) == texts(nobody)
    assert "#### No such patient is in your care units" in texts(hidden)
    assert not hidden.get("vega_lite_chart")


def test_the_inbox_and_the_burden_are_of_the_unit_alone(page: "Callable[..., AppTest]") -> None:
    inbox, burden = page("alerts"), page("burden")

    assert list(inbox.dataframe[0].value["Patient"]) == ["a/1"]
    assert burden.multiselect[0].options == ["ICU"]
    assert [list(table.value["Unit"].unique()) for table in burden.dataframe if "Unit" in table.value] == [["ICU"]] * 2
