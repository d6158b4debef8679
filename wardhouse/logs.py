"""How components log: lines for people, or with WARD_LOG_FORMAT=json an object a line for whoever collects them.

An object has ``at`` (RFC 3339, UTC), ``level``, ``logger`` and ``message``; where an exception is told, ``error``; and
what is about one message, ``trace_id``: that message's id, as tables and topics have it. No patient is named.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import typer

from wardhouse.errors import Failure

VARIABLE = "WARD_LOG_FORMAT"
_FORMATS = ("text", "json")
_OF_AN_EVENT = ("alert_id", "state", "rule_id", "priority", "pack")


class JsonLines(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; what an ``extra`` says beside the text stands in it under its own name."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in ("trace_id", *_OF_AN_EVENT) if (value := getattr(record, name, None))}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def begin(environment: Mapping[str, str]) -> None:
    """Log as the environment says, from here on; left out, as each component does. Raises Failure."""
    wanted = environment.get(VARIABLE, "text")
    if wanted not in _FORMATS:
        raise Failure(f"{VARIABLE} is {wanted}: give {' or '.join(_FORMATS)}")
    if wanted == "json":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(logging.INFO)
        logging.getLogger("kafka").setLevel(logging.ERROR)


def teller(component: str) -> Callable[[str], None]:
    """What a component says on standard error."""
    if _as_json():
        return logging.getLogger(component).warning
    return lambda text: typer.echo(f"{component}: {text}", err=True)


def shower(component: str, mark: str = "") -> Callable[[dict[str, Any]], None]:
    """What shows alert events: lines in a terminal, or log lines with the id of the message that caused each."""
    from alerting.terminal import printer

    if not _as_json():
        return printer(mark)
    log = logging.getLogger(component)

    def show(event: dict[str, Any]) -> None:
        known = {name: event.get(name) for name in _OF_AN_EVENT}
        log.info("%s: %s", event["title"], event["state"], extra={**known, "trace_id": event.get("message_id")})

    return show


def _as_json() -> bool:
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)
