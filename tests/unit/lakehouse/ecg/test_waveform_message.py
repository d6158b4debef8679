from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ecg.chunk import ABOVE, BELOW, MOST_SAMPLES, NO_VALUE
from lakehouse.ecg.message import WaveformMessageError, decode, encode
from lakehouse.message import schema
from tests.fixtures.ecg import chunk

PLAIN: dict[str, Any] = {
    **{name: value for name, value in orjson.loads(encode(chunk(), "m1", "monitor")).items() if name != "packed"},
    "samples": [1024, 1030, 1020],
}


def plain(**changes: Any) -> bytes:
    """The small chunk as a sender without the codec writes it; ``...`` leaves a field out."""
    return orjson.dumps({name: value for name, value in {**PLAIN, **changes}.items() if value is not ...})


@given(st.lists(st.integers(NO_VALUE, ABOVE), min_size=1, max_size=50), st.sampled_from([None, 0.0]))
def test_a_chunk_comes_out_as_it_was_sent(samples: list[int], lowest: float | None) -> None:
    sent = chunk(samples=samples, lowest=lowest)

    assert decode(encode(sent, "m1", "monitor")) == sent


def test_plain_integers_are_the_same_chunk() -> None:
    assert decode(plain()) == chunk()
    assert decode(plain(samples=["E", "L", "U", 0])).samples.tolist() == [NO_VALUE, BELOW, ABOVE, 0]


def test_whole_numbers_written_as_decimals_are_whole_numbers() -> None:
    message = orjson.loads(encode(chunk(), "m1", "monitor"))
    message["packed"]["count"] = 3.0

    assert decode(orjson.dumps(message)) == chunk()
    assert decode(plain(samples=[1024.0, 1030.0, 1020.0])) == chunk()


def packed_as(**changes: Any) -> dict[str, Any]:
    return {"samples": ..., "packed": {"encoding": "delta-zstd", "count": 3, "data": "AAAA", **changes}}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"patient_id": "mrn"}, "patient_id"),
        ({"signal": "8867-4"}, "signal"),
        ({"signal": "147842"}, "signal"),
        ({"started_at": "2026-03-01T12:00:00"}, "started_at"),
        ({"started_at": "2026-13-01T12:00:00Z"}, "month"),
        ({"rate": 0}, "rate"),
        ({"unit": "mmHg"}, "unit"),
        ({"gain": 0}, "gain"),
        ({"samples": []}, "samples"),
        ({"samples": [1.5]}, "samples"),
        ({"samples": [NO_VALUE]}, "samples"),
        ({"samples": ["X"]}, "samples"),
        ({"samples": ...}, "data must"),
        ({"colour": "red"}, "colour"),
        (packed_as(), "packed"),
        (packed_as(data="é"), "data"),
        (packed_as(data="A"), "data"),
        (packed_as(count=MOST_SAMPLES + 1), "count"),
        (packed_as(encoding="zip"), "encoding"),
    ],
)
def test_a_message_that_breaks_the_contract_is_refused_by_the_name_of_its_field(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(WaveformMessageError, match=named):
        decode(plain(**changes))


@pytest.mark.parametrize("content", [b"", b"[]", b"5", b"\xff", b"{"])
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(WaveformMessageError):
        decode(content)


def test_a_chunk_that_is_too_long_for_a_message_is_refused() -> None:
    with pytest.raises(WaveformMessageError, match="too many"):
        encode(chunk(samples=[0] * (MOST_SAMPLES + 1)), "m1", "monitor")


def test_schema_and_codec_agree_on_the_longest_chunk() -> None:
    properties = schema("waveform")["properties"]

    assert properties["packed"]["properties"]["count"]["maximum"] == MOST_SAMPLES
    assert properties["samples"]["maxItems"] == MOST_SAMPLES
