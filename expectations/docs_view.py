"""How Data Docs are rendered: without a request to any other host, and to the same bytes for the same results.

Great Expectations' own pages take styles, scripts and a logo from public hosts, which a hospital's network does
not reach and which need not know who looks at its data quality; without them tables stay empty. Import inside functions
only: it loads Great Expectations, which takes seconds.
"""

from typing import Any

import jinja2
from great_expectations.render.view.view import DefaultJinjaIndexPageView, DefaultJinjaPageView  # noqa: TID253


def _own(view: Any) -> None:
    env: jinja2.Environment = view.env
    theirs = [] if env.loader is None else [env.loader]
    env.loader = jinja2.ChoiceLoader([jinja2.PackageLoader("expectations", "pages"), *theirs])
    env.globals.update(columns_of=columns_of, rows_of=rows_of)


def rows_of(block: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table, newest first and then by table: they come in the order in which the disk lists files."""
    by_page = sorted(block["table_data"], key=lambda row: str(row.get("_table_row_link_path")))
    return sorted(by_page, key=lambda row: -float(row.get("_run_time_sort") or 0))


def columns_of(block: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns of a table that are shown."""
    return [column for column in block["table_columns"] if column.get("visible", True)]


class PageView(DefaultJinjaPageView):  # type: ignore[misc]
    """A page of one suite or of one table's results in a run."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _own(self)


class IndexView(DefaultJinjaIndexPageView):  # type: ignore[misc]
    """The list of runs and suites."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _own(self)
