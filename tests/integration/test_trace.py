"""``ward trace`` on a real broker, and what a collector gets of it by OTLP over HTTP."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest
from kafka import KafkaProducer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from typer.testing import CliRunner

from alerting.notification import Delivery, Notification, Told, encode, encode_delivery
from alerting.tracer import Topics, TracerError, exporter, run
from tests.integration.test_router import wait_for
from wardhouse.cli import app

TOLD = Told("a1", 0, "heart-rate-high", "Heart rate high", "medium", "physiological", "active", since=1)


class Collector:
    """What a collector's door is: it takes OTLP, or answers that it is away."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.away = True
        self.refused = 0

    def take(self, body: bytes) -> int:
        if self.away:
            self.refused += 1
            return 400
        request = ExportTraceServiceRequest.FromString(body)
        for of_resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in of_resource.resource.attributes}
            for scope in of_resource.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]
        return 200


@contextmanager
def served(collector: Collector) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = collector.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not on the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def tracing(broker: str, names: Topics, said: list[str]) -> Iterator[None]:
    stop, ready = threading.Event(), threading.Event()
    given = {"export": exporter(), "stop": stop, "on_ready": ready.set, "say": said.append, "group": names.alerts}
    thread = threading.Thread(target=run, kwargs={"bootstrap_servers": broker, "topics": names, **given})
    thread.start()
    try:
        wait_for(ready.is_set)
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def send(broker: str, *records: tuple[str, bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker)
    for topic, value in records:
        producer.send(topic, key=b"mrn/1", value=value)
        producer.flush(30)
    producer.close()


def test_an_alert_is_one_trace_from_its_message_to_its_delivery_though_the_collector_was_away(
    broker: str, topics: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Topics.of(topics())
    event = {"alert_id": "a1", "sequence": 0, "state": "active", "message_id": "m1", "message_received_at": 1_000}
    notification = Notification("n1", "mrn/1", "raised", 0, "medium", ("pager",), 1_500, "adult/1", (TOLD,))
    sent = Delivery("n1", "mrn/1", "pager", "undeliverable", 3, 2_000, ("a1",), "connection refused")
    collector, said = Collector(), list[str]()
    with served(collector) as address:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        send(
            broker,
            (names.alerts, b"{"),
            (names.alerts, orjson.dumps(event)),
            (names.notifications, encode(notification)),
        )
        with tracing(broker, names, said):
            wait_for(lambda: collector.refused > 0)
        assert collector.spans == []
        # Another one, after the first was stopped: what no collector took was not committed.
        collector.away = False
        with tracing(broker, names, said):
            wait_for(lambda: len(collector.spans) == 2)
            send(broker, (names.deliveries, encode_delivery(sent)))
            wait_for(lambda: len(collector.spans) == 3)
        with tracing(broker, names, said):
            send(broker, (names.alerts, orjson.dumps({**event, "sequence": 1, "state": "resolved"})))
            wait_for(lambda: len(collector.spans) == 4)
    found = {span.name: (service, span) for service, span in collector.spans}
    assert {name: service for name, (service, _) in found.items()} == {
        "alert active": "ward-router",
        "notification raised": "ward-router",
        "delivery by pager": "ward-notify",
        "alert resolved": "ward-router",
    }
    assert len({span.trace_id for _, span in found.values()}) == 1
    first = found["alert active"][1]
    assert first.start_time_unix_nano == 1_000_000_000
    assert first.parent_span_id == b""
    assert found["notification raised"][1].parent_span_id == first.span_id
    failed = found["delivery by pager"][1]
    assert failed.parent_span_id == found["notification raised"][1].span_id
    assert (failed.status.code, failed.status.message) == (2, "connection refused")
    assert "wardhouse.message_id" in {one.key for one in first.attributes}
    assert any("left out:" in text for text in said)
    assert "the collector does not take spans, trying on; nothing is lost meanwhile" in said


def test_without_a_collector_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    answer = CliRunner().invoke(app, ["trace", "--data-dir", str(tmp_path)])
    assert (answer.exit_code, "no collector: set OTEL_EXPORTER_OTLP_ENDPOINT" in answer.output) == (1, True)


def test_without_its_topics_it_says_what_to_do(broker: str) -> None:
    with pytest.raises(TracerError, match="run 'ward apply'"):
        run(
            bootstrap_servers=broker,
            topics=Topics("none.1", "none.2", "none.3"),
            export=lambda _: True,
            stop=threading.Event(),
            on_ready=lambda: None,
            say=lambda _: None,
        )
