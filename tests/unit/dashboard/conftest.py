"""Small real Delta tables with the declared columns."""

from collections.abc import Callable
from functools import partial

import pytest

from lakehouse.datadir import DataDir
from tests.fixtures.delta import append

Write = Callable[..., None]


@pytest.fixture
def write(data: DataDir) -> Write:
    """Append rows to a declared table; what a row leaves out is null, whatever the declaration says."""
    return partial(append, data)
