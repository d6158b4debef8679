from alerting.latencies import BOUNDS_MS, Latencies


def test_a_latency_counts_in_the_first_class_that_holds_it() -> None:
    latencies = Latencies()

    latencies.told([{"message_received_at": 1_000}, {"message_received_at": 0}], now=1_020)
    latencies.told([{"message_received_at": 0}], now=60_001)

    found = latencies.as_dict()
    assert dict(zip(found["bounds_ms"], found["counts"], strict=False)) == {
        **dict.fromkeys(BOUNDS_MS, 0),
        20: 1,
        2_000: 1,
    }
    assert (found["counts"][-1], found["sum_ms"]) == (1, 20 + 1_020 + 60_001)


def test_what_no_message_caused_has_no_latency() -> None:
    latencies = Latencies()

    latencies.told([{"message_received_at": None}, {}], now=5_000)

    assert sum(latencies.as_dict()["counts"]) == 0


def test_a_broker_whose_clock_is_ahead_counts_as_no_time_at_all() -> None:
    latencies = Latencies()

    latencies.told([{"message_received_at": 2_000}], now=1_000)

    assert (latencies.as_dict()["counts"][0], latencies.as_dict()["sum_ms"]) == (1, 0)
