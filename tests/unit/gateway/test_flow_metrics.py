from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from alerting.latencies import Latencies
from gateway.flow_metrics import FlowMetrics
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.ledger import Check, Fault, Ledger
from wardhouse.commands.verify import keep

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def found(data: DataDir) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(FlowMetrics(data))
    return registry


def said(data: DataDir, flow: str, **line: Any) -> None:
    progress.append(data.progress(flow), {"at": NOON.isoformat(), **line})


def test_a_batch_is_fresh_until_its_newest_record_and_an_idle_flow_until_it_says_so(data: DataDir) -> None:
    newest = int(NOON.timestamp() * 1000) - 7_000
    said(data, "observation", rows=5, newest_received_at=newest, lag=0)
    said(data, "alert_event", rows=5, newest_received_at=newest)
    said(data, "alert_event", idle=True)

    metrics = found(data)

    fresh = {
        flow: metrics.get_sample_value("ward_flow_fresh_until_seconds", {"flow": flow})
        for flow in ("observation", "alert_event", "device_message")
    }
    goal = metrics.get_sample_value("ward_flow_freshness_goal_seconds", {"flow": "observation"})
    assert fresh == {"observation": newest / 1000, "alert_event": NOON.timestamp(), "device_message": None}
    assert goal == 90.0


def test_a_flow_that_has_stopped_stays_as_fresh_as_it_was(data: DataDir) -> None:
    said(data, "observation", idle=True)
    progress.append(data.progress("observation"), {"at": "2026-03-01T13:00:00+00:00", "stopped": True})

    metrics = found(data)

    until = metrics.get_sample_value("ward_flow_fresh_until_seconds", {"flow": "observation"})
    stopped = metrics.get_sample_value("ward_flow_stopped", {"flow": "observation"})
    assert (until, stopped) == (NOON.timestamp(), 1.0)


def test_the_router_s_latencies_are_a_histogram(data: DataDir) -> None:
    latencies = Latencies()
    latencies.told([{"message_received_at": at} for at in (0, 600, 990)], now=1_010)
    said(data, "alert_router", latency=latencies.as_dict())

    metrics = found(data)

    counts = {
        le: metrics.get_sample_value("ward_alert_latency_seconds_bucket", {"le": le})
        for le in ("0.02", "0.5", "1.0", "2.0", "+Inf")
    }
    assert counts == {"0.02": 1, "0.5": 2, "1.0": 2, "2.0": 3, "+Inf": 3}
    assert metrics.get_sample_value("ward_alert_latency_seconds_sum") == 1.44


def test_what_waits_is_told_by_channel_and_what_was_parsed_by_outcome(data: DataDir) -> None:
    said(data, "alert_notify", waiting={"on-call": 3})
    said(data, progress.PARSED, parsed={"observation": 9, "quarantine": 2, "dead_letter": 1})

    metrics = found(data)

    assert metrics.get_sample_value("ward_notify_waiting", {"channel": "on-call"}) == 3
    assert metrics.get_sample_value("ward_parsed_total", {"outcome": "quarantine"}) == 2


def test_the_newest_proof_of_the_ledger_is_told_with_its_time(data: DataDir) -> None:
    keep(Ledger((Check("bronze", Fault.LOST, 2, ""),), {}), data)

    metrics = found(data)

    faults = {fault.value: metrics.get_sample_value("ward_ledger_faults", {"fault": fault.value}) for fault in Fault}
    assert faults == {"lost": 2, "duplicated": 0, "unexplained": 0}
    assert metrics.get_sample_value("ward_ledger_proven_at_seconds") == (
        datetime.fromisoformat((progress.last(data.progress(progress.LEDGER)) or {})["at"]).timestamp()
    )


def test_nothing_is_told_of_a_data_dir_on_which_nothing_ran(data: DataDir) -> None:
    assert [sample for metric in found(data).collect() for sample in metric.samples] == []
