"""``ward trace``: what became of each alert, as traces for an OpenTelemetry collector."""

import os

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def trace(path: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Send alerts, notifications and deliveries as spans to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names.

    Runs until it is stopped (Ctrl-C or SIGTERM). No alert waits for it; a collector that is away loses nothing.
    """
    import logging

    from alerting.tracer import Topics, TracerError, exporter, run
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import Failure, failures
    from wardhouse.logs import teller
    from wardhouse.signals import stop_on_signals

    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with failures(TracerError):
        if not any(os.environ.get(name) for name in _ENDPOINTS):
            raise Failure(f"no collector: set {_ENDPOINTS[1]}, as http://127.0.0.1:4318; docs/monitoring.md has more")
        folder, settings = data_dir(path), Settings()
        with component(folder, "trace") as running, stop_on_signals() as stop:
            run(
                bootstrap_servers=bootstrap_servers(settings, folder),
                topics=Topics.of(settings.topics()),
                export=exporter(),
                stop=stop,
                on_ready=running.ready,
                say=teller("trace"),
            )
