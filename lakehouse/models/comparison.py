"""Versions side by side, and NEWS2, qSOFA and SIRS beside them: figures of the same rows, or none."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from lakehouse.models.card import performance_table
from lakehouse.models.evaluation import MODEL, Evaluation, Performance


class OtherRowsError(ValueError):
    """Versions were evaluated on different rows; the text says which, and what to do."""


def comparison(of: Mapping[int, Evaluation]) -> list[str]:
    """A Markdown table of versions by number, and of the scores on their rows. Raises OtherRowsError."""
    (first, evaluation), *others = of.items()
    for number, other in others:
        if other.rows_digest != evaluation.rows_digest:
            raise OtherRowsError(
                f"version {number} was evaluated on other rows ({other.rows_digest[:12]}) than version {first}"
                f" ({evaluation.rows_digest[:12]}): `ward model train` both on one snapshot"
            )
    rows = f"{evaluation.landmarks:,} landmarks of {evaluation.patients} patients, rows {evaluation.rows_digest[:12]}"
    return [f"{rows}: {evaluation.outcome.event}", "", *performance_table(_ranked(of))]


def _ranked(of: Mapping[int, Evaluation]) -> Iterator[Performance]:
    for number, evaluation in of.items():
        yield replace(evaluation.of(MODEL), name=f"version {number}")
    # Of the same rows the scores are the same in each.
    yield from (one for one in next(iter(of.values())).performances if one.name != MODEL)
