"""What the page Alerts does through Kafka, against a real broker and a router that runs."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import timedelta

import pytest

from alerting.orders import OrderError
from alerting.router import Topics
from dashboard.desk import Brokers, Desk, DeskAwayError
from lakehouse.datadir import DataDir
from lakehouse.topics import ALERT_COMMAND, ALERT_STATE
from tests.integration.test_alert_commands import breach, listed, names, routing, ward
from tests.integration.test_router import send, wait_for
from wardhouse.commands import alerts

__all__ = ["names"]


@pytest.fixture
def desk(broker: str, names: Topics) -> Iterator[Desk]:
    here = {ALERT_STATE.name: names.state, ALERT_COMMAND.name: names.commands}
    with closing(Desk(Brokers(broker, here)).start()) as running:
        yield running


def states(desk: Desk) -> dict[str, tuple[str, str | None]]:
    return {row["patient_id"]: (row["state"], row["acknowledged_by"]) for row in desk.rows()}


def test_what_is_acknowledged_and_silenced_at_the_desk_is_so_for_the_commands(
    broker: str, names: Topics, data: DataDir, desk: Desk
) -> None:
    assert desk.rows() == []
    with routing(broker, names, data):
        send(broker, names.evaluations, breach(0), breach(1, "hospital/2"))
        wait_for(lambda: len(desk.rows()) == 2)
        assert states(desk) == {"hospital/1": ("active", None), "hospital/2": ("active", None)}
        (first,) = [row for row in desk.rows() if row["patient_id"] == "hospital/1"]

        desk.acknowledge(first["alert_id"], "nurse on duty", "on my way")
        assert desk.is_so(first["alert_id"], "acknowledged", 10)
        made = desk.silence("dr on duty", "in theatre", timedelta(minutes=30), "hospital/2", None)
        wait_for(lambda: states(desk)["hospital/2"][0] == "silenced")

        found = listed(data)
        assert {name: (row["state"], row["acknowledged_by"]) for name, row in found.items()} == {
            "hospital/1": ("acknowledged", "nurse on duty"),
            "hospital/2": ("silenced", None),
        }
        assert [json.loads(line) for line in ward(data, alerts.app, "silences", "--json")[1].splitlines()] == [
            asdict(made)
        ]
        assert desk.silences_in_force() == (made,)
        with pytest.raises(OrderError, match="is acknowledged already"):
            desk.acknowledge(first["alert_id"], "dr on duty", None)
        with pytest.raises(OrderError, match="is not in the router's state any more"):
            desk.acknowledge("nothing", "dr on duty", None)


def test_what_no_router_takes_is_said(broker: str, names: Topics, data: DataDir, desk: Desk) -> None:
    with routing(broker, names, data):
        send(broker, names.evaluations, breach(0))
        wait_for(lambda: len(desk.rows()) == 1)
    (row,) = desk.rows()
    desk.acknowledge(row["alert_id"], "nurse on duty", None)
    assert not desk.is_so(row["alert_id"], "acknowledged", 0.5)


def test_where_no_broker_answers_nothing_is_known_and_nothing_ordered(
    orders: tuple[Callable[[Desk], object], ...],
) -> None:
    with closing(Desk(Brokers("127.0.0.1:1", {})).start()) as away:
        for order in orders:
            with pytest.raises(DeskAwayError, match=r"no broker answers \(127.0.0.1:1"):
                order(away)


@pytest.fixture
def orders() -> tuple[Callable[[Desk], object], ...]:
    return (
        Desk.rows,
        Desk.silences,
        lambda desk: desk.acknowledge("a", "nurse on duty", None),
        lambda desk: desk.silence("nurse on duty", "why", timedelta(minutes=5), "hospital/1", None),
    )
