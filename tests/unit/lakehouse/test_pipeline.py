from dataclasses import replace
from importlib import import_module

import pytest

from lakehouse.pipeline import ALERT_LIMITS, DEVICE_MESSAGE, FLOWS, OBSERVATION, Flow, check, flow_named, flows_of
from lakehouse.table import DeclarationError
from lakehouse.tables import TABLES


def flow(name: str, reads: tuple[str, ...] = (), writes: tuple[str, ...] = ()) -> Flow:
    return Flow(name=name, reads=reads, writes=writes, build="x:y", application="test", owner="test")


def test_the_declared_flows_stand_in_an_order_in_which_each_comes_after_those_it_reads_from():
    order = [flow.name for flow in check()]
    assert sorted(order) == sorted(flow.name for flow in FLOWS)
    writer = {name: flow.name for flow in FLOWS for name in flow.writes}
    pairs = [(writer[name], flow.name) for flow in FLOWS for name in flow.reads if name in writer]
    assert [pair for pair in pairs if order.index(pair[0]) > order.index(pair[1])] == []


def test_every_table_has_a_flow_that_writes_it():
    written = {name for flow in FLOWS for name in flow.writes}
    assert [table.full_name for table in TABLES if table.full_name not in written] == []


@pytest.mark.parametrize("declared", FLOWS, ids=lambda flow: flow.name)
def test_what_a_flow_is_built_by_can_be_called(declared):
    module, _, function = declared.build.partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize(
    ("flows", "error"),
    [
        ([flow("a", reads=("gold.alert_event",))], "flow a reads gold.alert_event, which nothing writes"),
        ([flow("a", reads=("no.such",))], "flow a reads no.such, which nothing writes"),
        ([flow("a", writes=("no.such",))], "flow a writes no.such, which is neither a table nor a topic"),
        ([flow("a", writes=("alerts",)), flow("b", writes=("alerts",))], "alerts has two writers: a and b"),
        (
            [flow("a", ("gold.alert_event",), ("alerts",)), flow("b", ("alerts",), ("gold.alert_event",))],
            "flows read each other in a circle: a -> b -> a",
        ),
        ([flow("a", ("alerts",), ("alerts",))], "flows read each other in a circle: a -> a"),
        (
            [flow("a", writes=("alerts",)), replace(flow("b"), adds_to=("alerts",), application="other")],
            "flow b adds to alerts, which no flow of its application writes",
        ),
        (
            [
                flow("a", ("alerts",), ("alert.state",)),
                flow("b", writes=("alerts",)),
                replace(flow("c", ("alert.state",)), adds_to=("alerts",)),
            ],
            "flows read each other in a circle: a -> c -> a",
        ),
    ],
)
def test_a_pipeline_that_contradicts_itself_is_an_error_that_says_where(flows, error):
    with pytest.raises(DeclarationError) as raised:
        check(flows)
    turned = error.replace("a -> b -> a", "b -> a -> b").replace("a -> c -> a", "c -> a -> c")
    assert str(raised.value) in (error, turned)


def test_two_flows_of_one_name_are_an_error():
    with pytest.raises(DeclarationError):
        check([replace(ALERT_LIMITS, writes=()), replace(DEVICE_MESSAGE, name=ALERT_LIMITS.name)])


def test_a_flow_is_found_by_its_name_and_an_unknown_name_is_told_the_known_ones():
    assert flow_named("observation") is OBSERVATION
    with pytest.raises(KeyError, match="no flow named silver; declared: alert_limits, "):
        flow_named("silver")


def test_an_application_runs_its_flows_in_order():
    assert [flow.name for flow in flows_of("alerts")] == ["alert_limits"]
    lakehouse = [flow.name for flow in flows_of("lakehouse")]
    assert lakehouse.index("device_message") < lakehouse.index("observation")
    assert flows_of("nothing") == ()
