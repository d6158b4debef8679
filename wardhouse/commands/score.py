"""``ward score``: early-warning scores of the rows of a CSV file."""

from pathlib import Path
from typing import Annotated

import typer

from lakehouse.scores import Score


def score(
    name: Annotated[Score, typer.Argument(help="Which score.")],
    source: Annotated[Path, typer.Argument(metavar="IN.csv", help="A row a patient and instant, a column an input.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT.csv", help="The same rows with total, bounds, risk and parts.")
    ],
) -> None:
    """Score each row of a CSV file; a missing input gives the least and the most that the total can be."""
    import csv

    from lakehouse.score_rows import ScoreInputError, added_columns, check_header, scored_rows
    from lakehouse.scores import SCORES
    from wardhouse.errors import Failure, failures

    definition = SCORES[name]
    fresh = target.with_name(f".{target.name}.new")
    with failures():
        try:
            with source.open(encoding="utf-8-sig", newline="") as given:
                rows = csv.DictReader(given)
                check_header(rows.fieldnames, definition, name)
                with fresh.open("w", encoding="utf-8", newline="") as made:
                    writer = csv.DictWriter(made, [*(rows.fieldnames or ()), *added_columns(definition)])
                    writer.writeheader()
                    writer.writerows(scored_rows(rows, definition))
            fresh.replace(target)
        except (ScoreInputError, UnicodeDecodeError, csv.Error) as error:
            raise Failure(f"{source}: {error}") from error
        except FileNotFoundError as error:
            raise Failure(f"no such file or folder: {error.filename}") from error
        finally:
            # What could not be finished is not left to be taken for a result.
            fresh.unlink(missing_ok=True)
