"""What a stream needs to know, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakehouse.cluster import Cluster
from lakehouse.datadir import DataDir
from lakehouse.topics import Topic


@dataclass(frozen=True)
class StreamConfig:
    """Settings of one Spark application. ``topics`` are the site's topic names by declared name."""

    data: DataDir
    bootstrap: str
    topics: Mapping[str, str]
    jars: Path
    cores: int
    """Task slots: real-time mode holds one for each topic partition for as long as it runs."""
    memory: str
    pack: str = "adult"
    realtime: bool = True
    """Real-time mode for the alert flow; otherwise micro-batches with asynchronous progress."""
    cluster: Cluster | None = None
    """Where tasks run; None for threads of this process, ``cores`` of them."""

    @property
    def heaps(self) -> int:
        """How many heaps a batch's rows are spread over. What bounds a batch is what one of them takes."""
        return self.cluster.executors if self.cluster else 1

    def topic(self, topic: Topic) -> str:
        """The site's name of a declared topic."""
        return self.topics[topic.name]
