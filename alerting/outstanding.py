"""Which records of a topic are done with, so that offsets are committed only behind those that are. Pure."""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Outstanding(Generic[Key]):
    """Records by partition, each with the keys that must be settled before it is done with.

    Several records may wait for one key: a decision that was sent twice is told once.
    """

    def __init__(self) -> None:
        self._order: dict[int, deque[int]] = {}
        self._open: dict[tuple[int, int], int] = {}
        self._waiting: dict[Key, list[tuple[int, int]]] = {}
        self._next: dict[int, int] = {}

    def begin(self, partition: int, offset: int) -> None:
        """A partition is read from here on: what lies before is done with."""
        self._next[partition] = offset

    def add(self, partition: int, offset: int, keys: Iterable[Key]) -> None:
        """Take a record, in the order of its partition; without keys it is done with at once."""
        place = (partition, offset)
        wanted = set(keys)
        self._order.setdefault(partition, deque()).append(offset)
        self._open[place] = len(wanted)
        self._next[partition] = offset + 1
        for key in wanted:
            self._waiting.setdefault(key, []).append(place)

    def settle(self, key: Key) -> None:
        """This key is recorded: nothing waits for it any more."""
        for place in self._waiting.pop(key, ()):
            self._open[place] -= 1

    def waits_for(self, key: Key) -> bool:
        """Whether a record waits for this key."""
        return key in self._waiting

    def ahead(self, partition: int) -> int:
        """Records of a partition that were taken and cannot be committed yet."""
        self._advance(partition)
        return len(self._order.get(partition, ()))

    def committable(self) -> dict[int, int]:
        """By partition, the offset before which every record taken is done with."""
        for partition in self._order:
            self._advance(partition)
        return {
            partition: order[0] if (order := self._order.get(partition)) else after
            for partition, after in self._next.items()
        }

    def _advance(self, partition: int) -> None:
        order = self._order.get(partition)
        while order and not self._open[partition, order[0]]:
            del self._open[partition, order.popleft()]

    def clear(self) -> None:
        """Forget everything: the partitions are assigned anew."""
        for part in (self._order, self._open, self._waiting, self._next):
            part.clear()
