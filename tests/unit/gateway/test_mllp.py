from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mllp import Framer, OverlongError

LIMIT = 40

# Bytes that matter to a framer come often, so that frames break in all ways.
STREAM = st.lists(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\x1c\r", b"MSH|a", b"x" * 15]), max_size=30).map(b"".join)


def cut(framer: Framer, chunks: Iterable[bytes]) -> list[bytes]:
    """The messages of a stream; what was too long is the last of them."""
    found: list[bytes] = []
    try:
        for chunk in chunks:
            found.extend(framer.feed(chunk))
    except OverlongError as error:
        found.append(b"too long: " + error.head[:5])
    return found


@given(STREAM, st.lists(st.integers(0, 400), max_size=12))
def test_the_messages_are_the_same_however_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(place for place in cuts if place < len(stream)), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(places)]

    whole = cut(Framer(LIMIT), [stream])

    assert cut(Framer(LIMIT), chunks) == whole
    assert cut(Framer(LIMIT), [bytes([one]) for one in stream]) == whole


@given(st.lists(st.binary(max_size=LIMIT).filter(lambda one: not set(one) & {0x0B, 0x1C}), max_size=5))
def test_every_framed_message_comes_out_as_it_went_in(messages: list[bytes]) -> None:
    assert cut(Framer(LIMIT), [b"".join(b"\x0b" + one + b"\x1c\r" for one in messages)]) == messages


def test_what_stands_before_a_frame_is_left_out() -> None:
    assert cut(Framer(), [b"GET / HTTP/1.1\r\n", b"\r\n\x0bMSH|1\x1c\r junk \x0bMSH|2\x1c"]) == [b"MSH|1", b"MSH|2"]


def test_a_frame_that_was_broken_off_is_replaced_by_the_next() -> None:
    assert cut(Framer(), [b"\x0bMSH|half", b"\x0bMSH|whole\x1c\r"]) == [b"MSH|whole"]


def test_messages_before_one_that_is_too_long_come_out_and_the_rest_is_not_kept() -> None:
    framer = Framer(LIMIT)
    stream = framer.feed(b"\x0bgood\x1c\r\x0b" + b"x" * 41)

    assert next(stream) == b"good"
    with pytest.raises(OverlongError, match=r"^the message is longer than 40 bytes$") as caught:
        next(stream)
    assert caught.value.head == b"x" * 40
