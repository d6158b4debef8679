"""The edge before a gateway that answers as a test says; with a real one it is in tests/integration/test_edge.py."""

import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.main import get_command

from alerting.terminal import line
from gateway import keys, outbox, scopes
from gateway.edge import create_app
from gateway.guard import Access
from gateway.ingest import Record
from gateway.keys import Keys
from gateway.refused import Refusals
from gateway.scopes import RULES, Scope
from gateway.spool import Spool
from gateway.upstream import UpstreamError, parts, target
from lakehouse.datadir import DataDir
from tests.fixtures.mqtt import write_certificate
from tests.fixtures.packs import prompt_pack
from tests.fixtures.pages import curl, page, shell
from tests.fixtures.upstream import NOON, Answer, Clock, Gateway, accepted, problem, serving
from tests.fixtures.vitals import heart_rate, message
from wardhouse.cli import app

KEY = "ward_upstream"


@pytest.fixture
def upstream() -> Iterator[Gateway]:
    with serving() as gateway:
        yield gateway


class Edge:
    """An edge that a test starts and stops, with its clock and what it says."""

    def __init__(self, data: DataDir, folder: Path, upstream: Gateway) -> None:
        self.data, self.folder, self.upstream, self.clock = data, folder, upstream, Clock()
        self.said: list[str] = []
        self.told: list[str] = []
        self.key_file = folder / "upstream.key"
        self.key_file.write_text(f"{KEY}\n")

    @contextmanager
    def running(self, limit: int = 1_000_000, ca: Path | None = None, **more: Any) -> Iterator[TestClient]:
        application = create_app(
            self.data,
            target(self.upstream.url, self.key_file, ca),
            spool=Spool(self.folder / "spool", limit),
            pack=prompt_pack(),
            clock=self.clock,
            refusals=Refusals(self.folder / "refused"),
            tell=lambda event: self.told.append(line(event)),
            say=self.said.append,
            sleep=self.clock.sleep,
            **more,
        )
        with TestClient(application, base_url="http://127.0.0.1") as client:
            yield client

    def post(self, client: TestClient, *names: str, value: float = 72.0, patient: str = "mrn/1", **more: Any) -> int:
        sent = [
            message(
                heart_rate(value),
                message_id=name,
                patient_id=patient,
                observed_at=self.clock.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                location={"unit": "ICU", "bed": "7"},
            )
            for name in names
        ]
        answer = client.post("/api/iot", json=sent, **more)
        return int(answer.status_code)

    def kept(self) -> dict[str, list[str]]:
        """The faults of each refused message by its id."""
        files = [orjson.loads(file.read_bytes()) for file in (self.folder / "refused").glob("*.json")]
        return {orjson.loads(one["payload"])["message_id"]: one["faults"] for one in files}

    def until(self, condition: Callable[[], Any], seconds: float = 0.0) -> None:
        """Wait for it; each look moves the clock."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.said
            self.clock.move(seconds)
            time.sleep(0.005)


@pytest.fixture
def edge(data: DataDir, tmp_path: Path, upstream: Gateway, monkeypatch: pytest.MonkeyPatch) -> Edge:
    # It waits by the machine's clock; what the edge waits beside it goes by that of the test.
    monkeypatch.setattr(outbox, "_PAUSE_S", 0.002)
    return Edge(data, tmp_path, upstream)


def refusing(*bad: str) -> Callable[[list[dict[str, Any]]], Answer]:
    """A gateway that takes no list with one of these in it, and names the first of them."""

    def answer(messages: list[dict[str, Any]]) -> Answer:
        found = [
            (index, one["message_id"], "too new") for index, one in enumerate(messages) if one["message_id"] in bad
        ]
        return problem(422, found[0]) if found else accepted(messages)

    return answer


def link(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/readyz").json()["link"]
    return found


def test_what_is_taken_goes_upstream_in_order_under_its_key_and_leaves_the_spool(edge: Edge) -> None:
    with edge.running() as client:
        answer = client.post("/api/iot", json=message(message_id="a"))
        edge.post(client, "b", "c")
        edge.until(lambda: client.get("/readyz").json()["spool"]["oldest_observed_at"] is None)
        ready = client.get("/readyz").json()

    assert (answer.status_code, answer.json()) == (
        202,
        {"accepted": 1, "messages": [{"message_id": "a", "partition": None, "offset": None}]},
    )
    assert edge.upstream.got == ["a", "b", "c"]
    assert set(edge.upstream.keys) == {f"Bearer {KEY}"}
    assert ready == {
        "ready": True,
        "link": {"state": "up", "since": "2026-03-01T12:00:00Z", "fault": None},
        "spool": {"bytes": 0, "limit_bytes": 1_000_000, "oldest_observed_at": None, "oldest_age_s": None},
        "local": {"active": False, "since": None},
    }


def test_a_message_that_breaks_the_contract_is_refused_as_the_gateway_does_and_nothing_is_kept(edge: Edge) -> None:
    with edge.running() as client:
        answer = client.post("/api/iot", json=[message(message_id="good"), {"message_id": "bad"}])
        size = client.get("/readyz").json()["spool"]["bytes"]

    assert (answer.status_code, answer.json()["errors"][0]["message_id"], size) == (422, "bad", 0)
    assert edge.upstream.got == []


def test_while_upstream_is_away_messages_wait_and_a_restart_goes_on_where_it_stood(edge: Edge) -> None:
    edge.upstream.answer = lambda _: problem(503, retry_after="7")
    with edge.running() as client:
        assert edge.post(client, "a", "b") == 202
        edge.until(lambda: link(client)["state"] == "down")
        edge.clock.move(5)
        away = client.get("/readyz")
    edge.upstream.answer = accepted
    with edge.running() as client:
        edge.post(client, "c")
        edge.until(lambda: len(edge.upstream.got) == 3)

    assert away.status_code == 200
    assert away.json()["link"] == {"state": "down", "since": "2026-03-01T12:00:00Z", "fault": "upstream answers 503"}
    assert away.json()["spool"]["oldest_age_s"] == 5.0
    assert edge.upstream.got == ["a", "b", "c"]


def test_upstream_is_left_alone_for_as_long_as_it_asks_and_else_for_longer_each_time(edge: Edge) -> None:
    asked_at: list[float] = []

    def answer(_: list[dict[str, Any]]) -> Answer:
        asked_at.append((edge.clock.now - NOON).total_seconds())
        return problem(503, **({"retry_after": "30"} if len(asked_at) == 1 else {}))

    edge.upstream.answer = answer
    with edge.running() as client:
        edge.post(client, "a")
        edge.until(lambda: len(asked_at) == 5, seconds=0.25)

    waited = [later - earlier for earlier, later in pairwise(asked_at)]
    assert all(seconds >= least for seconds, least in zip(waited, [30, 1, 2, 4], strict=True)), waited


def test_what_upstream_refuses_for_good_is_kept_with_its_reason_and_the_rest_goes_on(edge: Edge) -> None:
    edge.upstream.answer = refusing("b", "d")
    with edge.running() as client:
        edge.post(client, "a", "b", "c", "d", "e")
        edge.until(lambda: edge.upstream.got)
        counted = client.get("/metrics").text

    assert edge.upstream.got == ["a", "c", "e"]
    assert edge.kept() == {"b": ["upstream: too new"], "d": ["upstream: too new"]}
    assert 'ward_edge_forwarded_total{outcome="refused"} 2.0' in counted
    assert 'ward_edge_forwarded_total{outcome="acknowledged"} 3.0' in counted
    (folder,) = edge.folder.glob("refused")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_too_large_for_upstream_is_halved_until_the_one_is_found(edge: Edge) -> None:
    def answer(messages: list[dict[str, Any]]) -> Answer:
        return problem(413) if len(messages) > 1 or messages[0]["message_id"] == "c" else accepted(messages)

    edge.upstream.answer = answer
    with edge.running() as client:
        edge.post(client, "a", "b", "c", "d")
        edge.until(lambda: "d" in edge.upstream.got)

    assert edge.upstream.got == ["a", "b", "d"]
    assert edge.kept() == {"c": ["upstream: larger than it takes"]}


@pytest.mark.parametrize(
    "answer",
    [
        (404, {}, b"not here"),
        (200, {"content-type": "text/html"}, b"<h1>Log in"),
        (302, {"location": "https://elsewhere.example"}, b""),
        (422, {"content-type": "application/json"}, b'{"errors": [{"index": 0, "message_id": "a", "detail": "no"}]}'),
        problem(422),
        problem(422, (0, "another", "no")),
        problem(422, (7, "a", "no")),
    ],
    ids=["404", "page", "redirect", "another 422", "nothing named", "another message", "another place"],
)
def test_an_answer_that_is_not_of_a_gateway_about_these_messages_removes_none(edge: Edge, answer: Answer) -> None:
    edge.upstream.answer = lambda _: answer
    with edge.running() as client:
        edge.post(client, "a")
        edge.until(lambda: link(client)["state"] == "down")
        fault, size = link(client)["fault"], client.get("/readyz").json()["spool"]["bytes"]

    assert fault == f"upstream answers {answer[0]}: is --upstream the address of a gateway?"
    assert (size > 0, edge.kept()) == (True, {})


def test_a_key_that_upstream_does_not_take_stops_forwarding_until_the_file_has_another(edge: Edge) -> None:
    edge.upstream.answer = lambda _: problem(401) if edge.upstream.keys[-1] == f"Bearer {KEY}" else accepted(_)
    with edge.running() as client:
        assert edge.post(client, "a") == 202
        edge.until(lambda: link(client)["state"] == "denied")
        denied = client.get("/readyz")
        edge.until(lambda: len(edge.upstream.keys) == 2, seconds=0.5)
        again = edge.clock.now - NOON
        edge.key_file.write_text("ward_another\n")
        edge.until(lambda: edge.upstream.got, seconds=0.1)

    assert denied.json()["link"]["fault"] == "upstream answers 401: it does not know the key"
    assert again >= timedelta(minutes=1)
    assert edge.upstream.keys == [f"Bearer {KEY}", f"Bearer {KEY}", "Bearer ward_another"]


def test_a_full_spool_says_when_to_come_back_and_keeps_what_it_has(edge: Edge) -> None:
    edge.upstream.answer = lambda _: problem(503)
    with edge.running(limit=1000) as client:
        answers = [client.post("/api/iot", json=message(message_id=f"m{number}")) for number in range(5)]
        taken = [number for number, answer in enumerate(answers) if answer.status_code == 202]
        refused = answers[-1]
        edge.upstream.answer = accepted
        edge.until(lambda: len(edge.upstream.got) == len(taken), seconds=1)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["detail"].startswith("the spool holds ")
    assert edge.upstream.got == [f"m{number}" for number in taken]
    assert 0 < len(taken) < 5


def local(client: TestClient, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/local/alerts", **more).json()
    return found


def cut_off(edge: Edge, client: TestClient, **more: Any) -> None:
    """Let time pass until limits are evaluated here; no more of it than values are looked back at."""
    edge.until(lambda: link(client)["state"] == "down")
    edge.clock.move(11)
    edge.until(lambda: local(client, **more)["active"])


def test_ten_seconds_without_upstream_limits_are_evaluated_here_and_no_longer_when_it_has_everything(
    edge: Edge,
) -> None:
    edge.upstream.answer = lambda _: problem(503)
    with edge.running() as client:
        edge.post(client, "high", value=180.0)
        edge.until(lambda: link(client)["state"] == "down")
        edge.clock.move(9)
        edge.post(client, "still", value=181.0, patient="mrn/2")
        early = local(client)
        edge.clock.move(2)
        edge.until(lambda: local(client)["active"])
        during = local(client)
        edge.post(client, "again", value=70.0, patient="mrn/2")
        after = local(client)
        edge.upstream.answer = accepted
        edge.until(lambda: not local(client)["active"], seconds=1)
        ended = local(client)

    assert (early["active"], early["alerts"]) == (False, [])
    assert (during["local"], during["pack"]) == (True, prompt_pack().label)
    assert [(one["patient_id"], one["rule_id"], one["value"], one["state"]) for one in during["alerts"]] == [
        ("mrn/2", "heart-rate-high", 181.0, "active"),
        ("mrn/1", "heart-rate-high", 180.0, "active"),
    ]
    assert [one["patient_id"] for one in after["alerts"]] == ["mrn/1"]
    assert (ended["alerts"], [one["patient_id"] for one in ended["last"]["raised"]]) == ([], ["mrn/1", "mrn/2"])
    assert edge.upstream.got == ["high", "still", "again"]
    assert len(edge.told) == 3
    assert [said.split(":")[0] for said in edge.said if said.startswith(("limits", "raised"))] == [
        "limits are evaluated here",
        "raised here",
        "raised here",
    ]


def test_what_an_earlier_run_left_counts_as_time_without_upstream(edge: Edge) -> None:
    edge.upstream.answer = lambda _: problem(503)
    with edge.running() as client:
        edge.post(client, "a")
    with edge.running() as client:
        cut_off(edge, client)
        edge.post(client, "b", value=180.0)
        alerts = local(client)["alerts"]

    assert [one["value"] for one in alerts] == [180.0]


def test_limits_are_held_to_what_the_disk_has_no_room_for(edge: Edge) -> None:
    edge.upstream.answer = lambda _: problem(503)
    with edge.running(limit=400) as client:
        edge.post(client, "a")
        cut_off(edge, client)
        refused = edge.post(client, "b", "c", value=180.0)
        alerts = local(client)["alerts"]

    assert (refused, [one["value"] for one in alerts]) == (503, [180.0])


def test_a_message_whose_instant_no_calendar_has_is_kept_and_counted(edge: Edge) -> None:
    edge.upstream.answer = lambda _: problem(503)
    with edge.running() as client:
        edge.post(client, "a")
        cut_off(edge, client)
        odd = client.post("/api/iot", json=message(message_id="odd", observed_at="2026-02-30T12:00:00Z"))
        counted = client.get("/metrics").text
        edge.post(client, "b", value=180.0)
        alerts = local(client)["alerts"]
        edge.upstream.answer = accepted
        edge.until(lambda: len(edge.upstream.got) == 3, seconds=1)

    assert (odd.status_code, len(alerts)) == (202, 1)
    assert "ward_edge_unevaluated 1.0" in counted


def test_a_key_opens_what_its_scope_and_its_units_allow_and_who_looked_is_in_the_journal(edge: Edge) -> None:
    access = Access(Keys(keys.file_of(edge.data), edge.clock), required=True)

    def key(name: str, scope: Scope, unit: str | None = None) -> dict[str, str]:
        units = frozenset({unit}) if unit else None
        _, token = keys.create(keys.file_of(edge.data), name, frozenset({scope}), edge.clock.now, units)
        return {"Authorization": f"Bearer {token}"}

    edge.upstream.answer = lambda _: problem(503)
    monitor, icu, other = key("monitor", Scope.INGEST), key("icu", Scope.READ, "ICU"), key("other", Scope.READ, "ED")
    with edge.running(access=access) as client:
        stranger = edge.post(client, "no")
        assert edge.post(client, "a", value=180.0, headers=monitor) == 202
        cut_off(edge, client, headers=icu)
        seen, hidden = (local(client, headers=headers)["alerts"] for headers in (icu, other))
        sender = client.get("/api/local/alerts", headers=monitor).status_code

    (journal,) = (edge.data.access / "audit").iterdir()
    records = [orjson.loads(record) for record in journal.read_bytes().splitlines()]
    assert (stranger, sender, len(seen), hidden) == (401, 403, 1, [])
    assert {(one["actor"], one["outcome"]) for one in records} >= {
        ("nobody", "refused"), ("monitor", "refused"), ("icu", "done"), ("other", "done"),
    }  # fmt: skip
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    assert "180" not in journal.read_text()


def test_every_route_of_the_edge_declares_what_it_needs(edge: Edge) -> None:
    with edge.running() as client:
        application = client.app
        assert isinstance(application, FastAPI)
        names = {name for route in application.routes for name in scopes.names(route)}

    assert names <= set(RULES)
    assert "GET /api/local/alerts" in names


def test_upstream_is_believed_by_its_certificate_alone(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_PAUSE_S", 0.002)
    certificate, key, other = (tmp_path / name for name in ("certificate.pem", "key.pem", "other.pem"))
    write_certificate(other, key)
    write_certificate(certificate, key)
    with serving(key) as upstream:
        edge = Edge(data, tmp_path, upstream)
        with edge.running(ca=other) as client:
            edge.post(client, "a")
            edge.until(lambda: link(client)["state"] == "down")
            fault = link(client)["fault"]
        shown = list(upstream.keys)
        with edge.running(ca=certificate) as client:
            edge.until(lambda: upstream.got == ["a"], seconds=1)

    assert "CERTIFICATE_VERIFY_FAILED" in fault
    assert shown == []


@pytest.mark.parametrize("example", [one for one in shell(page("edge.md")) if "curl" in one])
def test_the_examples_of_the_page_are_answered(edge: Edge, example: str) -> None:
    with edge.running() as client:
        assert curl(client, example).status_code in (200, 202)


def test_the_commands_of_the_page_have_the_options_that_they_use() -> None:
    (command,) = (one for one in shell(page("edge.md")) if one.startswith("ward edge"))
    known = {option for parameter in get_command(app).commands["edge"].params for option in parameter.opts}

    assert {word for word in command.split() if word.startswith("--")} <= known


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://ward.example", "in clear"),
        ("https://user:secret@ward.example", "upstream-key-file"),  # pragma: allowlist secret
        ("ftp://ward.example", "no address of a gateway"),
        ("https://ward.example:99999", "no address"),
    ],
)
def test_an_upstream_that_cannot_be_is_refused_without_repeating_a_secret(tmp_path: Path, url: str, said: str) -> None:
    (tmp_path / "key").write_text("ward_k")
    with pytest.raises(UpstreamError, match=said) as refused:
        target(url, tmp_path / "key", None)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("content", [None, "", "two keys", "käse"])
def test_a_file_without_one_key_is_refused_by_its_name(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UpstreamError, match=str(file)):
        target("https://ward.example", file, None)


def test_a_batch_is_cut_where_its_body_would_be_too_large_and_nowhere_else() -> None:
    records = [Record(str(number), b"k", b"x" * size) for number, size in enumerate((4, 4, 20, 4, 4))]

    assert [[one.message_id for one in part] for part in parts(records, 13)] == [["0", "1"], ["2"], ["3", "4"]]
    assert list(parts([], 13)) == []
