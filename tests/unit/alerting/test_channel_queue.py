from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from alerting.channel_queue import ChannelQueue, Message
from alerting.kinds import Priority
from alerting.notification import Delivery, Notification, Told

TOLD = Told("a" * 32, 0, "spo2-low", "SpO2 low", "high", "physiological", "active", 1772366400000)


def notification(name: str, priority: Priority = "medium") -> Notification:
    return Notification(name, "hospital/1", "raised", 0, priority, ("nurse",), 1772366400000, "adult@1", (TOLD,))


def make(**changes: float) -> ChannelQueue:
    settings = {"per_minute": 3, "digest_s": 60.0, "give_up_s": 900.0} | changes
    return ChannelQueue("nurse", 2, jitter=lambda: 0.5, **settings)  # type: ignore[arg-type]


def taken(queue: ChannelQueue, now: float) -> Iterator[tuple[str, ...]]:
    """What the queue gives now, each taken by its receiver at once."""
    while (message := queue.take(now)) is not None:
        yield tuple(one.notification_id for one in message.notifications)
        queue.sent(message, 0)


def take(queue: ChannelQueue, now: float) -> Message:
    message = queue.take(now)
    assert message is not None
    return message


def test_the_most_urgent_goes_first_and_the_oldest_of_one_priority() -> None:
    queue = make(per_minute=10)
    for number, priority in enumerate(("low", "medium", "high", "medium", "high")):
        queue.add(notification(f"{number}", priority), number)  # type: ignore[arg-type]
    assert list(taken(queue, 10)) == [("2",), ("4",), ("1",), ("3",), ("0",)]
    assert len(queue) == 0
    assert queue.wait_s(10) is None


def test_what_is_delivered_and_what_is_digested_is_recorded_so() -> None:
    queue = make(per_minute=1)
    for name in "abc":
        queue.add(notification(name), 0)
    alone = take(queue, 0)
    delivered = Delivery("a", "hospital/1", "nurse", "delivered", 1, 1234, ("a" * 32,))
    assert queue.sent(alone, 1234) == [delivered]
    assert queue.take(59.9) is None
    assert queue.wait_s(59) == 1
    digest = take(queue, 60)
    digested = replace(delivered, notification_id="b", status="digested", at=2345, digest_id=digest.digest_id)
    assert queue.sent(digest, 2345) == [digested, replace(digested, notification_id="c")]
    assert len(digest.digest_id or "") == 32


def test_beyond_so_many_a_minute_the_rest_is_one_digest_an_interval_and_later_ones_go_alone_again() -> None:
    queue = make()
    for number in range(6):
        queue.add(notification(f"{number}"), number)
    assert list(taken(queue, 6)) == [("0",), ("1",), ("2",)]
    queue.add(notification("6"), 59)
    queue.add(notification("7"), 61)
    assert list(taken(queue, 61)) == [("7",)]
    assert list(taken(queue, 62.9)) == []
    assert list(taken(queue, 63)) == [("3", "4", "5", "6")]


def test_high_priority_is_never_collected_and_passes_what_waits() -> None:
    queue = make()
    for number in range(5):
        queue.add(notification(f"{number}"), 0)
    for number in range(5, 10):
        queue.add(notification(f"{number}", "high"), 1)
    assert list(taken(queue, 1)) == [(f"{number}",) for number in (5, 6, 7, 8, 9, 0, 1, 2)]


def test_what_comes_too_late_is_told_together_within_seconds_whatever_its_priority() -> None:
    queue = make()
    queue.add(notification("a", "high"), 0, late=True)
    queue.add(notification("b", "low"), 1, late=True)
    assert queue.take(4.9) is None
    message = take(queue, 5)
    assert (message.late, message.rank, len(message.notifications)) == (True, 0, 2)


def test_a_long_backlog_is_told_in_several_digests_the_most_urgent_first() -> None:
    queue = make()
    for number in range(1201):
        queue.add(notification(f"{number}", "high" if number > 1100 else "low"), 0, late=True)
    found = list(taken(queue, 5))
    assert [len(names) for names in found] == [500, 500, 201]
    assert found[0][:100] == tuple(f"{number}" for number in range(1101, 1201))


def test_a_digest_of_one_is_told_as_it_is() -> None:
    queue = make()
    queue.add(notification("a"), 0, late=True)
    message = take(queue, 5)
    assert message.digest_id is None
    assert [delivery.status for delivery in queue.sent(message, 0)] == ["delivered"]


def attempts_at(queue: ChannelQueue, until: float) -> list[float]:
    """Instants of the attempts on a receiver that refuses everything."""
    found, now = [], 0.0
    while now <= until:
        message = queue.take(now)
        if message is not None:
            found.append(now)
            queue.failed(message, (0,), "no", now, 0)
        now = round(now + 0.5, 1)
    return found


def test_a_message_is_tried_again_after_longer_and_longer_waits_up_to_a_minute() -> None:
    queue = make()
    queue.add(notification("a"), 0)
    found = attempts_at(queue, 300)
    assert found == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]


def test_high_priority_is_tried_again_every_quarter_of_a_minute() -> None:
    queue = make()
    queue.add(notification("a", "high"), 0)
    assert attempts_at(queue, 60) == [0, 1, 3, 7, 15, 30, 45, 60]


def test_a_receiver_that_is_down_is_tried_every_five_seconds_however_much_waits() -> None:
    queue = make(per_minute=100)
    for number in range(100):
        queue.add(notification(f"{number}"), 0)
    found = attempts_at(queue, 100)
    assert len(found) == 23
    assert {b - a for a, b in pairwise(found[5:])} == {5}


def test_a_receiver_that_is_back_gets_all_that_waits_at_once() -> None:
    queue = make()
    for name in "abc":
        queue.add(notification(name), 0)
    attempts_at(queue, 40)
    queue.add(notification("d", "high"), 45)
    found = list(taken(queue, 45))
    assert found[0] == ("d",)
    assert sorted(found[1:]) == [("a",), ("b",), ("c",)]


def test_one_message_that_is_refused_does_not_hold_up_others() -> None:
    queue = make()
    queue.add(notification("bad", "high"), 0)
    queue.failed(take(queue, 0), (0,), "no", 0, 0)
    queue.add(notification("good", "low"), 0.5)
    assert list(taken(queue, 0.5)) == [("good",)]


def test_urls_that_have_taken_a_message_do_not_get_it_again() -> None:
    queue = make()
    queue.add(notification("a"), 0)
    message = take(queue, 0)
    assert message.urls == (0, 1)
    queue.failed(message, (1,), "no", 0, 0)
    assert take(queue, 2).urls == (1,)


@pytest.mark.parametrize("now", [900, 1000])
def test_what_fails_for_too_long_is_given_up_with_its_last_error(now: float) -> None:
    queue = make()
    queue.add(notification("a"), 0)
    for at in (0, 2):
        assert queue.failed(take(queue, at), (0, 1), f"error of {at}", at, 0) == []
    assert queue.given_up(899, 5678) == []
    assert queue.given_up(now, 5678) == [
        Delivery("a", "hospital/1", "nurse", "undeliverable", 2, 5678, ("a" * 32,), "error of 2")
    ]
    assert len(queue) == 0


def test_an_attempt_that_ends_too_late_gives_up_at_once() -> None:
    queue = make()
    queue.add(notification("a"), 0)
    given_up = queue.failed(take(queue, 890), (0,), "timed out", 901, 5678)
    assert [(delivery.status, delivery.attempts, delivery.error) for delivery in given_up] == [
        ("undeliverable", 1, "timed out")
    ]


def test_what_was_never_tried_because_its_channel_is_down_names_the_channels_error() -> None:
    queue = make(per_minute=10)
    queue.add(notification("a", "high"), 0)
    queue.add(notification("b"), 0)
    queue.failed(take(queue, 0), (0,), "refused", 0, 0)
    assert {(delivery.attempts, delivery.error) for delivery in queue.given_up(900, 0)} == {
        (1, "refused"),
        (0, "refused"),
    }


def test_a_queue_that_is_cleared_forgets_what_waits_but_not_what_is_being_sent() -> None:
    queue = make(per_minute=2)
    for name in "abc":
        queue.add(notification(name), 0)
    message = take(queue, 0)
    assert len(queue) == 2
    queue.clear()
    assert (len(queue), queue.take(100)) == (0, None)
    assert [delivery.notification_id for delivery in queue.sent(message, 0)] == ["a"]
