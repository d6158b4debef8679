"""Failures that a person can mend: told in one line that says what to do, without a stack trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


class Failure(Exception):  # noqa: N818 - it is not a fault of the program
    """Something outside the program is not as it must be. The text says what, and what to do about it."""


@contextmanager
def failures(*kinds: type[Exception]) -> Iterator[None]:
    """Turn a Failure, or one of ``kinds``, into one line on stderr and exit code 1.

    The outermost ``with`` of a command.
    """
    told: tuple[type[Exception], ...] = (Failure, *kinds)
    try:
        yield
    except told as error:
        typer.echo(f"ward: {error}", err=True)
        raise typer.Exit(1) from error
