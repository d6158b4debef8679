"""What a page shows when it cannot show what it is for: one sentence on what is wrong, one on what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st  # noqa: TID253 - only a running Streamlit imports this package

from lakehouse.reader import TableMissingError


@contextmanager
def explained() -> Iterator[None]:
    """Turn a table that is not there yet into an empty state instead of a stack trace."""
    try:
        yield
    except TableMissingError as error:
        empty(
            "Nothing has been stored yet",
            f"The table {error.table.full_name} is not in this data dir. Start the pipeline with `ward up`;"
            " the first minutes appear here within ninety seconds. This page looks again by itself.",
        )


def empty(title: str, advice: str) -> None:
    """A page, or a part of one, that has nothing to show."""
    with st.container(border=True):
        st.markdown(f"#### {title}")
        st.markdown(advice)
