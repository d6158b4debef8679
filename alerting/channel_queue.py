"""What waits to be told on one destination: in which order, when again after a failure, and when it is given up. Pure.

Flood control: up to ``per_minute`` messages go one by one. What comes beyond is collected, and told as one digest when
``digest_s`` have passed since its first; so is, within seconds, what was decided longer ago than the channel tries.
High priority is never collected for being one too many, and always goes first.

Failures: each message waits longer after each of its failures, and the whole destination rests after each failure, a
few seconds at most: a receiver that is down costs little, and one message that it refuses does not hold up others.
Time is seconds of any steady clock.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import orjson

from alerting.message_text import RANK
from alerting.notification import Delivery, Notification, Status

_MINUTE = 60.0
_LATE_WAIT_S = 5.0
"""How long late notifications are collected: a backlog that is read at a start comes within seconds."""
_DIGEST_SIZE = 500
"""Notifications of one digest at most: some 300 kB for a webhook, which services still take."""
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = {0: 15.0, 1: 60.0, 2: 60.0}
"""By rank of the priority."""
_FIRST_REST_S = 0.5
_LONGEST_REST_S = 5.0


@dataclass(slots=True)
class Message:
    """One message to send: a notification, or a digest of several where ``digest_id`` is given.

    ``urls`` are the places (by number) that have not taken it yet.
    """

    notifications: tuple[Notification, ...]
    since: float
    due: float
    urls: tuple[int, ...]
    digest_id: str | None = None
    late: bool = False
    attempts: int = 0
    error: str | None = None

    @property
    def rank(self) -> int:
        """That of the most urgent notification in it."""
        return min(RANK[notification.priority] for notification in self.notifications)


@dataclass(slots=True)
class _Collected:
    """Notifications for the next digest, and when that is due."""

    late: bool
    notifications: list[Notification] = field(default_factory=list)
    since: float = 0.0
    due: float = 0.0


class ChannelQueue:
    """The messages of one destination. One at a time is taken and must be answered by sent or failed.

    ``jitter`` gives numbers from 0 to 1: it spreads retries, so that several queues do not come in step.
    """

    def __init__(
        self,
        channel: str,
        urls: int,
        *,
        per_minute: int,
        digest_s: float,
        give_up_s: float,
        jitter: Callable[[], float],
    ) -> None:
        self._channel = channel
        self._urls = tuple(range(urls))
        self._per_minute = per_minute
        self._digest_s = digest_s
        self._give_up_s = give_up_s
        self._jitter = jitter
        self._waiting: list[Message] = []
        self._collected = {late: _Collected(late) for late in (False, True)}
        self._alone_at: deque[float] = deque()
        self._failures = 0
        self._rest_until = 0.0
        self._last_error: str | None = None

    def __len__(self) -> int:
        """Notifications that wait, collected ones among them."""
        collected = sum(len(part.notifications) for part in self._collected.values())
        return collected + sum(len(message.notifications) for message in self._waiting)

    def add(self, notification: Notification, now: float, *, late: bool = False) -> None:
        """Take a notification; ``late`` where it was decided longer ago than the channel tries."""
        while self._alone_at and now - self._alone_at[0] >= _MINUTE:
            self._alone_at.popleft()
        if late:
            self._collect(self._collected[True], notification, now, min(_LATE_WAIT_S, self._digest_s))
        elif notification.priority == "high" or len(self._alone_at) < self._per_minute:
            self._alone_at.append(now)
            self._waiting.append(Message((notification,), now, now, self._urls))
        else:
            self._collect(self._collected[False], notification, now, self._digest_s)

    def take(self, now: float) -> Message | None:
        """The message to send now, or None. It is out of the queue until it is answered."""
        self._close_digests(now)
        if now < self._rest_until:
            return None
        ready = [message for message in self._waiting if message.due <= now]
        if not ready:
            return None
        chosen = min(ready, key=lambda message: (message.rank, message.attempts, message.since))
        self._waiting.remove(chosen)
        chosen.attempts += 1
        return chosen

    def wait_s(self, now: float) -> float | None:
        """Seconds until there may be something to do; None where nothing waits."""
        due = [
            min(max(message.due, self._rest_until), message.since + self._give_up_s) for message in self._waiting
        ] + [part.due for part in self._collected.values() if part.notifications]
        return max(min(due) - now, 0.0) if due else None

    def sent(self, message: Message, at: int) -> list[Delivery]:
        """Every URL has taken the message: what is to be recorded, at this instant (epoch ms)."""
        recovered = self._failures > 1
        self._failures, self._rest_until, self._last_error = 0, 0.0, None
        if recovered:
            for waiting in self._waiting:
                waiting.due = 0.0
        return self._deliveries(message, "digested" if message.digest_id else "delivered", at, None)

    def failed(self, message: Message, urls: tuple[int, ...], error: str, now: float, at: int) -> list[Delivery]:
        """These URLs have not taken the message: it is kept for later, or recorded as given up."""
        self._failures += 1
        self._rest_until = now + min(_FIRST_REST_S * 2.0 ** (self._failures - 1), _LONGEST_REST_S)
        self._last_error = message.error = error
        message.urls = urls
        if now - message.since >= self._give_up_s:
            return self._deliveries(message, "undeliverable", at, error)
        longest = _LONGEST_RETRY_S[message.rank]
        pause = min(_FIRST_RETRY_S * 2.0 ** min(message.attempts - 1, 10), longest)
        message.due = now + pause * (0.75 + 0.5 * self._jitter())
        self._waiting.append(message)
        return []

    def given_up(self, now: float, at: int) -> list[Delivery]:
        """Take out what has waited for too long, and say what is to be recorded of it."""
        self._close_digests(now)
        over = [message for message in self._waiting if now - message.since >= self._give_up_s]
        if not over:
            return []
        self._waiting = [message for message in self._waiting if now - message.since < self._give_up_s]
        return [
            delivery
            for message in over
            for delivery in self._deliveries(message, "undeliverable", at, message.error or self._last_error)
        ]

    def clear(self) -> None:
        """Forget what waits: it is read again from Kafka by whoever has its partition."""
        self._waiting.clear()
        for part in self._collected.values():
            part.notifications.clear()

    def _collect(self, part: _Collected, notification: Notification, now: float, wait_s: float) -> None:
        if not part.notifications:
            part.since, part.due = now, now + wait_s
        part.notifications.append(notification)

    def _close_digests(self, now: float) -> None:
        for part in self._collected.values():
            if part.notifications and part.due <= now:
                # The most urgent first: where there are several digests, they are in the first.
                found = sorted(part.notifications, key=lambda one: (RANK[one.priority], one.at))
                part.notifications.clear()
                for start in range(0, len(found), _DIGEST_SIZE):
                    self._waiting.append(self._digest(tuple(found[start : start + _DIGEST_SIZE]), part.late, now))

    def _digest(self, notifications: tuple[Notification, ...], late: bool, now: float) -> Message:
        # One alone is told in full. A digest is tried for as long as any message, from now on.
        digest_id = _digest_id(self._channel, notifications) if len(notifications) > 1 else None
        return Message(notifications, now, now, self._urls, digest_id, late)

    def _deliveries(self, message: Message, status: Status, at: int, error: str | None) -> list[Delivery]:
        return [
            Delivery(
                notification_id=notification.notification_id,
                patient_id=notification.patient_id,
                channel=self._channel,
                status=status,
                attempts=message.attempts,
                at=at,
                alert_ids=tuple(told.alert_id for told in notification.alerts),
                error=error,
                digest_id=message.digest_id,
            )
            for notification in message.notifications
        ]


def _digest_id(channel: str, notifications: Sequence[Notification]) -> str:
    """32 hexadecimal digits: the same notifications on the same channel have the same again."""
    named = [channel, *(notification.notification_id for notification in notifications)]
    return blake2b(orjson.dumps(named), digest_size=16).hexdigest()
