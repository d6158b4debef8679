from dataclasses import replace

from bench.bench_peers import lost, row
from bench.peer_run import Figures, Load, told
from bench.peers.load import sent_at
from bench.peers.rules import Limit, breaches

OURS = Figures(
    "wardhouse", "alerts", {"p50": 10.0, "p99": 50.0}, cpu_s_per_million=100.0, rss_mb=1000, highest_rate=4000
)


def test_a_value_beyond_either_limit_is_one_breach_and_one_at_the_limit_is_none() -> None:
    seen = [("low", 49), ("low", 50), ("high", 111), ("high", 110), ("other", 0)]
    message = {
        "message_id": "m",
        "patient_id": "p",
        "observations": [*({"code": code, "value": value} for code, value in seen), {"code": "low", "value_code": "A"}],
    }
    table = {"low": Limit("low", 50, None), "high": Limit("high", None, 110)}

    assert breaches(message, table) == [
        {"message_id": "m", "patient_id": "p", "code": "low", "value": 49, "limit": 50},
        {"message_id": "m", "patient_id": "p", "code": "high", "value": 111, "limit": 110},
    ]


def test_an_evaluation_tells_of_its_breaches_and_an_alert_of_itself() -> None:
    evaluation = {
        "message_id": "m",
        "observations": [{"code": "a", "band": "breach"}, {"code": "b", "band": "normal"}, {"code": "c"}],
    }

    assert told(evaluation) == [("m", "a")]
    assert told({"message_id": "m", "code": "a", "value": 1}) == [("m", "a")]


def test_what_ours_is_worse_at_is_named_and_a_small_difference_is_none() -> None:
    better = replace(OURS, latency_ms={"p50": 5.0, "p99": 49.0}, cpu_s_per_million=50.0, highest_rate=8000)

    assert lost(OURS, better) == ["p50", "CPU", "rate"]
    assert lost(OURS, OURS) == []


def test_an_engine_that_cannot_be_had_is_a_row_with_the_reason() -> None:
    cells = row(Figures("spark", "alerts", reason="no Java"), OURS)

    assert cells[:2] == ("plain Spark micro-batch", "no figures: no Java")
    assert set(cells[2:]) == {""}
    assert len(cells) == len(row(OURS, OURS))


def test_the_search_doubles_the_rate_and_the_messages_suffice_for_it() -> None:
    load = Load(rate=1000, warm_up_s=5, seconds=10, step_s=4, most=5000)

    assert load.rates == (2000, 4000)
    assert load.messages == 2000 + 15 * 1000 + 4 * 6000


def test_a_message_is_sent_with_the_instant_at_which_it_is_sent() -> None:
    value = b'{"observed_at":"2026-01-01T00:00:00.000Z","status":"final"}'

    assert sent_at(value, b"2026-01-02T03:04:05.678Z") == b'{"observed_at":"2026-01-02T03:04:05.678Z","status":"final"}'
