from lakehouse.progress import Record
from wardhouse.report import (
    Use,
    batch_latency,
    cores,
    cpu_per_million,
    delay_growth,
    lag_growth,
    largest_lag,
    messages_sent,
    summary,
)

NOTHING = {"p50": None, "p90": None, "p95": None, "p99": None, "p999": None, "max": None, "count": 0}


def test_percentiles_are_values_that_occurred() -> None:
    assert summary([float(value) for value in range(1, 1001)]) == {
        "p50": 500.0,
        "p90": 900.0,
        "p95": 950.0,
        "p99": 990.0,
        "p999": 999.0,
        "max": 1000.0,
        "count": 1000,
    }


def test_without_values_every_percentile_is_unknown() -> None:
    assert summary([]) == NOTHING


def test_one_value_is_all_of_its_percentiles() -> None:
    assert summary([7.0]) == {"p50": 7.0, "p90": 7.0, "p95": 7.0, "p99": 7.0, "p999": 7.0, "max": 7.0, "count": 1}


def test_a_value_counts_as_often_as_its_weight_says() -> None:
    assert summary([1.0, 2.0], weights=[99, 1]) == {
        "p50": 1.0,
        "p90": 1.0,
        "p95": 1.0,
        "p99": 1.0,
        "p999": 2.0,
        "max": 2.0,
        "count": 100,
    }


def batch(rows: int, oldest: int, newest: int, committed: int) -> Record:
    return {"rows": rows, "oldest_received_at": oldest, "newest_received_at": newest, "committed_at": committed}


def test_a_batch_spreads_its_records_between_its_oldest_and_its_newest() -> None:
    found = batch_latency([batch(1000, oldest=0, newest=9900, committed=10_000)])
    assert found == {
        "p50": 5000.0,
        "p90": 9000.0,
        "p95": 9500.0,
        "p99": 9900.0,
        "p999": 10_000.0,
        "max": 10_000.0,
        "count": 1000,
    }


def test_what_came_before_the_warm_up_was_over_does_not_count() -> None:
    found = batch_latency([batch(1000, oldest=0, newest=9900, committed=10_000)], since_ms=5000)
    assert (found["count"], found["p50"], found["max"]) == (500, 2500.0, 5000.0)


def test_batches_count_by_their_rows_and_empty_ones_not_at_all() -> None:
    lines: list[Record] = [
        batch(9000, oldest=0, newest=0, committed=100),
        batch(1000, oldest=0, newest=0, committed=5000),
        {"idle": True},
        {"rows": 0, "committed_at": 1, "oldest_received_at": None, "newest_received_at": None},
    ]
    assert batch_latency(lines) == {
        "p50": 100.0,
        "p90": 100.0,
        "p95": 5000.0,
        "p99": 5000.0,
        "p999": 5000.0,
        "max": 5000.0,
        "count": 10_000,
    }
    assert batch_latency([]) == NOTHING


def test_what_a_restarted_simulator_sent_adds_up() -> None:
    lines: list[Record] = [
        {"run": "a", "acknowledged": 10},
        {"run": "a", "acknowledged": 25},
        {"run": "b", "acknowledged": 5},
    ]
    assert messages_sent(lines) == 30
    assert messages_sent([]) == 0


def test_the_largest_lag_leaves_out_lines_that_do_not_say() -> None:
    assert largest_lag([{"lag": 3}, {"lag": None}, {"idle": True}, {"lag": 7}, {"lag": 1}]) == 7
    assert largest_lag([{"idle": True}]) is None


def test_processor_use_is_what_came_between_two_instants() -> None:
    begin = Use(at=100.0, cpu_s={"broker": 10.0, "router": 1.0}, sent=1000)
    end = Use(at=200.0, cpu_s={"broker": 40.0, "router": 2.0, "gateway": 5.0}, sent=101_000)
    assert cores(begin, end) == {"broker": 0.3, "router": 0.01, "gateway": 0.05}
    assert cpu_per_million(begin, end) == {"broker": 300.0, "router": 10.0, "gateway": 50.0}


def test_processor_use_is_unknown_where_nothing_was_sent() -> None:
    begin = Use(at=100.0, cpu_s={"broker": 10.0}, sent=0)
    assert cores(None, begin) == {}
    assert cpu_per_million(begin, Use(at=101.0, cpu_s={"broker": 11.0}, sent=0)) == {}


def test_the_growth_of_a_lag_is_a_line_through_what_a_flow_said_of_it() -> None:
    told: list[Record] = [{"committed_at": 1000 * second, "lag": 100 + 5 * second} for second in range(60)]
    told += [{"committed_at": 70_000, "lag": 99_999}, {"committed_at": 30_000, "lag": None}, {"idle": True}]
    said: list[Record] = [{"at": f"1970-01-01T00:00:{second:02}+00:00", "lag": 7 * second} for second in range(10)]
    assert lag_growth(said, 0, 60_000) == 7.0
    assert lag_growth(told, 10_000, 59_000) == 5.0
    assert lag_growth(told, 58_000, 59_000) is None
    assert lag_growth(told, None, 59_000) is None


def test_a_gold_that_grows_older_does_not_keep_up() -> None:
    def lines(growth: float) -> list[Record]:
        return [batch(10, 0, round(1000 * (at - 20 - growth * at)), 1000 * at) for at in range(100, 400, 10)]

    assert delay_growth(lines(0.25), 0, 1_000_000) == 0.25
    assert delay_growth(lines(0), 0, 1_000_000) == 0
    assert delay_growth([{"idle": True, "committed_at": 5}], 0, 1_000_000) is None
