import orjson
import pytest

from alerting.notification import Delivery, Notification
from alerting.notification import Told as ToldAlert
from alerting.spans import Span, SpanError, Told, of_event

EVENT = {
    "alert_id": "a1",
    "sequence": 0,
    "state": "active",
    "rule_id": "heart-rate-high",
    "patient_id": "mrn/1",
    "message_id": "m1",
    "message_received_at": 1_000,
}
TOLD = ToldAlert("a1", 2, "heart-rate-high", "Heart rate high", "medium", "physiological", "active", since=900)
NOTIFICATION = Notification("n1", "mrn/1", "escalated", 1, "medium", ("pager",), 1_500, "adult/1", (TOLD,))


def delivery(status: str = "delivered", error: str | None = None) -> Delivery:
    return Delivery("n1", "mrn/1", "pager", status, 1, 2_000, ("a1",), error)  # type: ignore[arg-type]


def test_a_transition_takes_from_its_message_at_the_broker_until_the_broker_has_it() -> None:
    span = of_event(orjson.dumps(EVENT), 1_030)
    assert (span.name, span.begin, span.end, span.parent) == ("alert active", 1_000, 1_030, None)
    assert span.attributes == {
        "alert_id": "a1",
        "sequence": 0,
        "state": "active",
        "rule_id": "heart-rate-high",
        "message_id": "m1",
    }


def test_what_follows_hangs_below_the_transition_that_opened_the_alert() -> None:
    first = of_event(orjson.dumps(EVENT), 1_030)
    later = of_event(orjson.dumps({**EVENT, "sequence": 2, "state": "escalated"}), 9_000)
    told = Told()
    (notification,) = told.of_notification(NOTIFICATION, 1_520)
    (sent,) = told.of_delivery(delivery())
    spans = (first, later, notification, sent)
    assert len({span.trace_id for span in spans}) == 1
    assert len({span.span_id for span in spans}) == 4
    assert later.parent_id == first.span_id
    assert notification.parent_id == later.span_id
    assert sent.parent_id == notification.span_id
    assert (sent.begin, sent.end, sent.failed) == (1_500, 2_000, None)


def test_what_time_alone_caused_has_no_length_and_clocks_that_differ_make_none_negative() -> None:
    silent = {name: value for name, value in EVENT.items() if name != "message_received_at"}
    assert _length(of_event(orjson.dumps(silent), 5_000)) == 0
    assert _length(of_event(orjson.dumps(EVENT), 990)) == 0


def _length(span: Span) -> int:
    return span.end - span.begin


def test_a_delivery_whose_notification_is_not_known_any_more_has_no_length_and_a_failed_one_says_why() -> None:
    (span,) = Told().of_delivery(delivery("undeliverable", "connection refused"))
    assert (_length(span), span.failed) == (0, "connection refused")


def test_no_span_names_a_patient() -> None:
    told = Told()
    spans = [of_event(orjson.dumps(EVENT), 1_030), *told.of_notification(NOTIFICATION, 1_520)]
    assert not any("mrn/1" in str(span.attributes) for span in [*spans, *told.of_delivery(delivery())])


@pytest.mark.parametrize("value", [b"{", b"[]", b"{}", b'{"alert_id":"a","sequence":"x","state":"active"}'])
def test_what_is_no_event_is_an_error(value: bytes) -> None:
    with pytest.raises(SpanError, match="not an event"):
        of_event(value, 1)
