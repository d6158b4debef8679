import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.mqtt import MAX_PAYLOAD_BYTES, Payload, SourceError, Waiting, read, source
from gateway.refused import Refusals

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (b"", "the body is not JSON: "),
        (b"{", "the body is not JSON: "),
        (b"7", "the body is neither a message nor a list of messages"),
        (b"[]", "the body is neither a message nor a list of messages"),
        (b"{\n}\n{", "line 1 of the body is not JSON: "),
        (b"{}", "message 0: "),
        (b"{}\n{}", "message 0: "),
        (b" " * (MAX_PAYLOAD_BYTES + 1), "the payload is larger than 1048576 bytes"),
    ],
)
def test_what_is_no_message_says_why(payload: bytes, fault: str) -> None:
    records, faults = read(payload)

    assert (records, faults[0][: len(fault)]) == ([], fault)


def options(**changes: Any) -> dict[str, Any]:
    return {"host": "mqtt.hospital", "port": None, "topics": ("monitors/#",), "client_id": "gateway", **changes}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"topics": ("monitors/#/bed",)}, "--mqtt-topic monitors/#/bed is no topic"),
        ({"topics": ("monitors/b+",)}, r"--mqtt-topic monitors/b\+ is no topic"),
        ({"topics": ("",)}, "--mqtt-topic  is no topic"),
        ({"client_id": ""}, "--mqtt-client-id is empty"),
        ({"ca": Path("/nowhere.pem")}, "--mqtt-ca /nowhere.pem holds no certificates"),
        ({"password_file": Path("/nowhere")}, "--mqtt-password-file wants --mqtt-user"),
        ({"user": "me", "password_file": Path("/nowhere")}, "will not send a password to mqtt.hospital in clear"),
        (
            {"host": "::1", "user": "me", "password_file": Path("/nowhere")},
            "--mqtt-password-file /nowhere cannot be read",
        ),
    ],
)
def test_a_broker_that_cannot_be_used_is_refused_with_the_option_to_mend(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SourceError, match=rf"^{told}"):
        source(**options(**changes))


def test_a_password_is_read_without_its_line_end_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hush \n", encoding="utf-8")

    found = source(**options(host="localhost", topics=("+/icu/#", "#"), user="me", password_file=file))

    assert (found.port, found.password, "hush" in repr(found)) == (1883, "hush ", False)


def test_the_folder_of_refused_payloads_loses_its_oldest_first_and_keeps_one_of_each(tmp_path: Path) -> None:
    folder = tmp_path / "refused"
    refusals = Refusals(folder, limit=400)
    one, two = (refusals.keep("t", payload, ["broken"], NOON) for payload in (b"1" * 50, b"2" * 50))
    refusals.keep("t", b"1" * 50, ["broken"], NOON)

    three = Refusals(folder, limit=400).keep("t", b"3" * 50, ["broken"], NOON)

    assert one.stat().st_size == 138
    assert {file: file.exists() for file in (one, two, three)} == {one: True, two: False, three: True}
    assert (three.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)


def test_of_a_payload_that_is_too_long_its_beginning_is_kept(tmp_path: Path) -> None:
    kept = orjson.loads(Refusals(tmp_path).keep("t", b"x" * 2_000_000, ["too long"], NOON).read_bytes())

    assert (len(kept["payload"]), kept["payload_bytes"]) == (1024 * 1024, 2_000_000)


def payload(content: bytes) -> Payload:
    return Payload("t", content, 1, 1, 0)


def test_the_client_waits_while_too_much_waits_and_a_batch_makes_room() -> None:
    async def run() -> tuple[bool, list[bytes], list[bytes]]:
        waiting = Waiting(most_bytes=10)
        waiting.put(payload(b"a" * 10))
        client = threading.Thread(target=waiting.put, args=[payload(b"b")])
        client.start()
        client.join(0.1)
        held = client.is_alive()
        first = await waiting.batch()
        client.join(10)
        second = await waiting.batch()
        return held, [one.content for one in first], [one.content for one in second]

    assert asyncio.run(run()) == (True, [b"a" * 10], [b"b"])


def test_a_batch_holds_a_mebibyte_or_one_payload_and_none_once_it_is_closed() -> None:
    async def run() -> list[list[int]]:
        waiting = Waiting()
        for size in (2_000_000, 600_000, 400_000, 100_000):
            waiting.put(payload(b"x" * size))
        batches = [await waiting.batch(), await waiting.batch()]
        waiting.close()
        waiting.put(payload(b"late"))
        batches.append(await waiting.batch())
        return [[len(one.content) for one in batch] for batch in batches]

    assert asyncio.run(run()) == [[2_000_000], [600_000, 400_000], []]
