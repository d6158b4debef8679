"""Sending one message by apprise. What a service answered is told without the secrets of its URL."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alerting.channels import Destination, Url
from alerting.kinds import Priority

_NO_ANSWER = "the service did not take it, and gave no reason"


@dataclass(frozen=True, slots=True)
class Text:
    """What is sent: plain text, ``fields`` for services that take JSON, files for those that take files."""

    title: str
    body: str
    priority: Priority
    fields: Mapping[str, Any]
    attachments: tuple[Path, ...] = ()


Send = Callable[[Text, tuple[int, ...]], dict[int, str]]
"""Sends a text to these URLs of a destination, by number: those that have not taken it, and why."""


def sender(destination: Destination) -> Send:
    """What sends to a destination. It is for one thread at a time: an apprise object keeps things between two sends."""
    from apprise import AppriseAsset

    quiet()
    # Nothing on disk, nothing in other threads: one destination is one thread already.
    asset = AppriseAsset(app_id="Wardhouse", app_desc="Wardhouse", app_url="", async_mode=False, storage_mode="memory")
    services = [_service(url, asset) for url in destination.urls]

    def send(text: Text, urls: tuple[int, ...]) -> dict[int, str]:
        failed = {number: services[number](text) for number in urls}
        return {number: error for number, error in failed.items() if error is not None}

    return send


def quiet() -> None:
    """Keep apprise's own log lines from stderr: they may hold what a URL keeps secret."""
    logger = logging.getLogger("apprise")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _service(url: Url, asset: Any) -> Callable[[Text], str | None]:
    """What sends to one URL, and answers with an error or None."""
    from apprise import Apprise, NotifyFormat, NotifyType
    from apprise.plugins.custom_json import NotifyJSON

    kinds = {"high": NotifyType.FAILURE, "medium": NotifyType.WARNING, "low": NotifyType.INFO}
    # The channels file was checked by the same call: it is never None here.
    plugin: Any = Apprise.instantiate(url.text, asset=asset)
    # Apprise would sleep between two messages to one service; how many there are a minute is the queue's to say.
    plugin.request_rate_per_sec = 0
    extras = dict(plugin.payload_extras) if isinstance(plugin, NotifyJSON) else None
    service = Apprise(asset=asset)
    service.add(plugin)

    def send(text: Text) -> str | None:
        if extras is not None:
            # As the URL's own `:name=value`, which knows texts only.
            plugin.payload_extras = {**extras, **text.fields}
        try:
            result = service.notify(
                body=text.body,
                title=text.title,
                notify_type=kinds[text.priority],
                body_format=NotifyFormat.TEXT,
                attach=[str(path) for path in text.attachments] or None,
            )
        except Exception as error:  # noqa: BLE001 - some hundred services' code: whatever it raises is a failed attempt
            return url.redacted(f"{type(error).__name__}: {error}")
        return None if result else url.redacted(_reason(result))

    return send


def _reason(result: Any) -> str:
    """The last warning that the service left behind."""
    warnings = [
        entry.message
        for one in result
        for attempt in one
        for entry in attempt.logs
        if entry.level in ("WARNING", "ERROR", "CRITICAL")
    ]
    return " ".join(str(warnings[-1]).split()) if warnings else _NO_ANSWER
