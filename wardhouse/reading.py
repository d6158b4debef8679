"""Reading published files, as the commands that do it show it: progress, interruption, and what became of the rows."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lakehouse.sources.source import Tally

_PROGRESS_S = 2.0
_REPEATED_S = 20.0


class SourceName(StrEnum):
    """The sources of lakehouse.sources.registry; a test holds the two equal."""

    MONITOR_CSV = "monitor-csv"
    MIMIC_III = "mimic-iii"
    MIMIC_IV = "mimic-iv"


def summary(tally: "Tally", sent: int, observations: int, done: str) -> list[str]:
    """What became of the rows, in a few lines; a report has it by item."""
    parts = (
        ("rows read", tally.rows_read),
        (f"messages {done}", sent),
        (f"observations {done}", observations),
        (f"not mapped, rows (items: {len(tally.unmapped_rows):,})", tally.unmapped_rows.total()),
        (f"not mapped, cells (columns: {len(tally.unmapped_cells):,})", tally.unmapped_cells.total()),
        ("without a charted value, rows", tally.rows_without_value.total()),
        ("texts instead of numbers, which silver quarantines", tally.text_values.total()),
        ("not selected, rows", tally.not_selected),
        ("rejected, rows", tally.rejected_rows.total()),
        (f"{done} with something left out, rows", tally.flawed_rows.total()),
        ("lines inside the quotes of another row", tally.lines_within_rows),
    )
    return [
        *(f"{count:>13,}  {what}" for number, (what, count) in enumerate(parts) if count or number < 3),
        *(f"               {problem}" for problem in tally.problems[:5]),
    ]


def resource_summary(tally: "Tally", done: str) -> list[str]:
    """What became of the rows of patients, admissions and stays."""
    parts = (
        (f"patients and encounters {done}", tally.messages),
        ("patients and encounters not selected, rows", tally.not_selected),
        ("patients and encounters rejected, rows", tally.rejected_rows.total()),
        ("of them without the one they belong to, rows", tally.flawed_rows.total()),
    )
    return [
        *(f"{count:>13,}  {what}" for what, count in parts if count),
        *(f"               {problem}" for problem in tally.problems[:5]),
        *(f"               no file {stem}: nothing of it in silver" for stem in tally.missing_files),
    ]


@contextmanager
def telling(text: Callable[[], str]) -> Iterator[None]:
    """Say on stderr how far the block has come, every other second where that has changed."""
    done = threading.Event()

    def tell() -> None:
        said, said_at = "", time.monotonic()
        while not done.wait(_PROGRESS_S):
            now = text()
            if now != said or time.monotonic() - said_at >= _REPEATED_S:
                said, said_at = now, time.monotonic()
                typer.echo(f"ward: {now}", err=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what lies on disk meanwhile is taken away."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
