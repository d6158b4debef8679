import asyncio
from typing import Any

import orjson
import pytest
from kafka.future import Future

from gateway.ingest import BrokerUnavailableError, Fault, Record, UnreadableError, check, parse, settled


def message(**changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "message_id": "m-1",
        "patient_id": "ward/1",
        "device_id": "monitor-1",
        "source": "test",
        "observed_at": "2026-03-01T12:00:00Z",
        "status": "final",
        "observations": [{"code": "8867-4", "value": 72, "unit": "/min"}],
        **changes,
    }


def test_a_body_is_one_message_or_a_list_of_them() -> None:
    assert parse(b'{"a": 1}') == [{"a": 1}]
    assert parse(b'[{"a": 1}, {"a": 2}]') == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"value": NaN}', b'{"value": 1e400}', b"[]", b'"text"', b"7", b"null"]
)
def test_a_body_that_holds_no_message_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse(body)


def test_messages_are_parted_into_those_to_send_and_what_is_wrong_with_the_others() -> None:
    good = message()

    records, faults = check([good, message(message_id="m-2", status="maybe"), 7, message(message_id=3)])

    assert records == [Record("m-1", b"ward/1", orjson.dumps(good))]
    assert [(fault.index, fault.message_id) for fault in faults] == [(1, "m-2"), (2, None), (3, None)]
    assert faults[0] == Fault(1, "m-2", faults[0].detail)
    assert "data.status must be one of" in faults[0].detail


def test_a_client_that_never_says_what_became_of_a_record_is_not_waited_for() -> None:
    done, never = Future(), Future()
    done.success("its place")

    assert asyncio.run(settled([done], 5.0)) == ["its place"]
    with pytest.raises(BrokerUnavailableError, match=r"nothing is known of the records after 0\.01 s"):
        asyncio.run(settled([done, never], 0.01))
