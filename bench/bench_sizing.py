"""How large an installation must be: arithmetic from what was measured on two cores, printed as the table of the docs.

Nothing is measured here: ``python -m bench sizing``. Each figure names the run that it is from (docs/benchmarks.md).
"""

from dataclasses import astuple, dataclass
from math import ceil

BEDS = (100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000)
MESSAGES_A_BED = 1.0
"""A monitor sends its six signals once a second."""

BROKER, ALERTS, ROUTER = 82, 211, 203
"""Processor seconds for a million messages at 1,000 messages/s, of the whole stack."""
LAKEHOUSE = 505
"""The same while catching up, with broker and start in it: both cores for 252.5 s of a million messages."""
LAKEHOUSE_FIXED = 0.75
"""Cores that the lakehouse is busy with however few its messages: at 1,000 a second it took 1.25, half a core of which
is for the messages."""
BUSY = 0.5
"""The share of a core that is planned with: the rest is for peaks, for a lost machine and for catching up after it."""
REPLICAS = 3
KAFKA_DAYS = 7


@dataclass(frozen=True)
class Bytes:
    """On the disk, for one message."""

    kafka: int
    tables: int


MEASURED = Bytes(kafka=654, tables=409)
HEADS = (
    "beds",
    "messages/s",
    "partitions, alert slots",
    "cores: alerts",
    "cores: lakehouse",
    "routers",
    "cores: brokers",
    "Kafka, GB",
    "tables, GB a day",
)


@dataclass(frozen=True)
class Size:
    """What a number of beds asks for; cores are processors."""

    beds: int
    rate: float
    partitions: int
    alert_cores: int
    lakehouse_cores: int
    routers: int
    broker_cores: int
    kafka_gb: float
    tables_gb_a_day: float


def size(beds: int, bytes_: Bytes) -> Size:
    """What so many beds ask for."""
    rate = beds * MESSAGES_A_BED
    routers = cores(rate * ROUTER * 1e-6)
    day = rate * 86_400 / 1e9
    return Size(
        beds,
        rate,
        max(2, routers),
        cores(rate * ALERTS * 1e-6),
        cores(rate * LAKEHOUSE * 1e-6 + LAKEHOUSE_FIXED),
        routers,
        cores(rate * BROKER * 1e-6 * REPLICAS),
        day * bytes_.kafka * KAFKA_DAYS * REPLICAS,
        day * bytes_.tables,
    )


def cores(busy: float) -> int:
    """Whole processors for so many busy ones."""
    return max(1, ceil(busy / BUSY))


def table(bytes_: Bytes) -> str:
    """Sizes as Markdown."""
    rows = [[_text(value) for value in astuple(size(beds, bytes_))] for beds in BEDS]
    lines = [f"| {' | '.join(row)} |" for row in (HEADS, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(HEADS), *lines[1:]])


def _text(value: float) -> str:
    return f"{value:,.0f}"


def main() -> None:
    """Print the table."""
    print(table(MEASURED))


if __name__ == "__main__":
    main()
