"""``ward trace``: alerts, notifications and deliveries to an OpenTelemetry collector, as spans.

It follows topics and is on nobody's way: no alert waits for a collector. Offsets are committed behind what the
collector has taken, so that a collector that is away loses nothing; what is sent twice is the same span.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from alerting.notification import NotificationError, decode, decode_delivery
from alerting.spans import Span, SpanError, Told, attributes, of_event
from lakehouse import kafka_access, topics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

GROUP = "ward-trace"
_POLL_MS = 500
_BATCH = 500
_STARTUP_MS = 30_000
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


class TracerError(RuntimeError):
    """Spans cannot be made; the text says what to do."""


@dataclass(frozen=True)
class Topics:
    """What the site calls the topics that are followed."""

    alerts: str = topics.ALERTS.name
    notifications: str = topics.ALERT_NOTIFICATION.name
    deliveries: str = topics.ALERT_DELIVERY.name

    @classmethod
    def of(cls, names: Mapping[str, str]) -> "Topics":
        """From the site's names by declared name."""
        return cls(**{field: names.get(name, name) for field, name in asdict(cls()).items()})


Export = Callable[[Sequence[Span]], bool]
"""Whether the collector has taken the spans."""


def run(
    *,
    bootstrap_servers: str,
    topics: Topics,
    export: Export,
    stop: threading.Event,
    on_ready: Callable[[], None],
    say: Callable[[str], None],
    group: str = GROUP,
) -> None:
    """Follow the topics until ``stop`` is set, from where the group stands, at first from their beginning.

    Raises TracerError where no broker answers at the start or a topic is missing.
    """
    with closing(_consumer(bootstrap_servers, topics, group)) as consumer:
        on_ready()
        told = Told()
        while not stop.is_set():
            try:
                records = [one for part in consumer.poll(timeout_ms=_POLL_MS).values() for one in part]
                if not records:
                    continue
                spans = [span for record in records for span in _spans(record, topics, told, say)]
                if not spans or _taken(spans, export, stop, say):
                    consumer.commit()
            except KafkaError as error:
                say(f"no answer from Kafka, trying on; nothing is lost meanwhile ({type(error).__name__})")
                stop.wait(_PAUSES_S[0])


def _consumer(bootstrap_servers: str, topics: Topics, group: str) -> KafkaConsumer:
    names = list(asdict(topics).values())
    try:
        consumer = KafkaConsumer(
            **kafka_access.client(bootstrap_servers),
            group_id=group,
            client_id="ward-trace",
            bootstrap_timeout_ms=_STARTUP_MS,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=_BATCH,
            # A collector may be away for longer than a poll may take: the group then gives the partitions to nobody.
            max_poll_interval_ms=24 * 3_600_000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
    except KafkaError as error:
        raise TracerError(kafka_access.unanswered(bootstrap_servers)) from error
    if missing := [name for name in names if not consumer.partitions_for_topic(name)]:
        consumer.close()
        raise TracerError(f"Kafka at {bootstrap_servers} has no topic {', '.join(missing)}: run 'ward apply'")
    consumer.subscribe(names)
    return consumer


def _spans(record: Any, topics: Topics, told: Told, say: Callable[[str], None]) -> Iterator[Span]:
    try:
        if record.topic == topics.alerts:
            yield of_event(record.value, record.timestamp)
        elif record.topic == topics.notifications:
            yield from told.of_notification(decode(record.value), record.timestamp)
        else:
            yield from told.of_delivery(decode_delivery(record.value))
    except (SpanError, NotificationError) as error:
        say(f"left out: {record.topic} {record.partition} {record.offset}: {error}")


def _taken(spans: Sequence[Span], export: Export, stop: threading.Event, say: Callable[[str], None]) -> bool:
    """Whether the spans were taken, however long that takes; not, where a stop came first."""
    if export(spans):
        return True
    say("the collector does not take spans, trying on; nothing is lost meanwhile")
    for pause in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
        if stop.wait(pause):
            return False
        if export(spans):
            break
    say("the collector takes spans again")
    return True


def exporter() -> Export:
    """Export by OTLP over HTTP, to where the OTEL_EXPORTER_OTLP_* variables say."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    # It tells of every attempt; we say once that the collector is away.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    sender = OTLPSpanExporter()
    return lambda spans: sender.export([_readable(span) for span in spans]) is SpanExportResult.SUCCESS


def _readable(span: Span) -> "ReadableSpan":
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Status, StatusCode

    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id),
        parent=None if span.parent_id is None else _context(span.trace_id, span.parent_id),
        resource=Resource.create({"service.name": span.service, "service.namespace": "wardhouse"}),
        attributes=attributes(span),
        status=Status(StatusCode.UNSET) if span.failed is None else Status(StatusCode.ERROR, span.failed),
        start_time=span.begin * 1_000_000,
        end_time=span.end * 1_000_000,
        instrumentation_scope=InstrumentationScope("wardhouse"),
    )


def _context(trace_id: int, span_id: int) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
