"""Data Docs: the stored results of the newest runs as a site of Great Expectations.

quality.validation_result is the only source: the same rows give the same files, whoever builds them and how often, and
runs that are older than those kept leave the site with the next build.
"""

import re
import shutil
import tempfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expectations.suites import history, suite
from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.table import Table
from lakehouse.tables import TABLES, VITAL_SIGN_MINUTE

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

RUNS = 48
"""Two days of hourly runs; the table keeps what is older."""

_NEWEST = """
SELECT run_id, table_name, table_version, expectation, success, unexpected_count, checked_at, detail
FROM quality.validation_result
WHERE run_id IN (
    SELECT run_id FROM quality.validation_result GROUP BY run_id ORDER BY max(checked_at) DESC, run_id LIMIT $runs
)
ORDER BY checked_at, run_id, table_name, expectation
"""


class DataDocsError(RuntimeError):
    """There is nothing to show, or Great Expectations could not render a page."""


def place(data: DataDir) -> Path:
    """Folder of the site."""
    return data.root / "quality" / "docs"


def build(data: DataDir, runs: int = RUNS) -> Path:
    """Build the site of the newest runs in place of the one that is there, and return its first page.

    Raises TableMissingError, and DataDocsError where no run is stored or a page could not be rendered.
    """
    rows = reader.query(data, _NEWEST, {"runs": runs}).to_pylist()
    if not rows:
        raise DataDocsError(f"no run is stored in {data.root} yet: `ward quality run --data-dir {data.root}` makes one")
    target = place(data)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".docs-") as scratch:
        made = _render(Path(scratch), rows)
        _check(made, {(row["run_id"], row["table_name"]) for row in rows})
        old = Path(scratch) / "old"
        if target.exists():
            target.rename(old)
        made.rename(target)
    return target / "index.html"


def _render(scratch: Path, rows: list[dict[str, Any]]) -> Path:
    import great_expectations

    context = great_expectations.get_context(mode="file", project_root_dir=scratch)
    context.variables.progress_bars = {"globally": False}
    tables = [table for table in TABLES if table.full_name in {row["table_name"] for row in rows}]
    for table in tables:
        _add_suite(context, table)
    for of_table in _grouped(rows):
        _add_result(context, of_table)
    site = scratch / "site"
    for name in context.get_docs_sites_urls():
        context.delete_data_docs_site(name["site_name"])
    context.add_data_docs_site("quality", _site(site))
    context.build_data_docs(site_names=["quality"])
    # Fonts and pictures of Great Expectations, which our pages do not use.
    shutil.rmtree(site / "static")
    return site


def _site(folder: Path) -> dict[str, Any]:
    page = {"module_name": "expectations.docs_view", "class_name": "PageView"}
    index = {"module_name": "expectations.docs_view", "class_name": "IndexView"}
    section = {"class_name": "DefaultSiteSectionBuilder", "view": page}
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
        "site_section_builders": {
            "expectations": {
                **section,
                "source_store_name": "expectations_store",
                "renderer": {"class_name": "ExpectationSuitePageRenderer"},
            },
            "validations": {
                **section,
                "source_store_name": "validation_results_store",
                "renderer": {"class_name": "ValidationResultsPageRenderer"},
            },
        },
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "view": index},
    }


def _grouped(rows: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows of one run and table together."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["run_id"], row["table_name"]), []).append(row)
    return list(found.values())


def _add_suite(context: Any, table: Table) -> None:
    context.suites.add(suite(table))


def descriptions(table_name: str, now: datetime) -> dict[str, str]:
    """What each rule of a declared table says, by its name; what is no longer declared has none."""
    table = next((table for table in TABLES if table.full_name == table_name), None)
    if table is None:
        return {}
    suites = [suite(table), *([history(now)] if table == VITAL_SIGN_MINUTE else [])]
    return {one.meta["rule"]: one.description or "" for made in suites for one in made.expectations}


def _add_result(context: Any, rows: list[dict[str, Any]]) -> None:
    from great_expectations.core import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    first = rows[0]
    key = ValidationResultIdentifier(
        expectation_suite_identifier=ExpectationSuiteIdentifier(first["table_name"]),
        # It names a folder, and a run's name is free text.
        run_id=RunIdentifier(re.sub(r"[^\w.:+-]|^\.+", "_", first["run_id"]), first["checked_at"]),
        batch_identifier=f"version-{first['table_version']}",
    )
    context.validation_results_store.set(key, _validated(rows, key.run_id))


def _validated(rows: list[dict[str, Any]], run: Any) -> "ExpectationSuiteValidationResult":
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    import expectations.kinds  # noqa: F401 - Great Expectations finds a kind by its name once it is imported

    first = rows[0]
    says = descriptions(first["table_name"], first["checked_at"])
    results = [
        ExpectationValidationResult(
            success=row["success"],
            expectation_config=ExpectationConfiguration(
                # Its description is what is shown. It is not checked again, so that it needs no condition.
                type="expect_table",
                kwargs={"holds": "as stored"},
                description=": ".join(filter(None, (row["expectation"], says.get(row["expectation"])))),
            ),
            result={"observed_value": _observed(row)},
            exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
        )
        for row in rows
    ]
    held = sum(row["success"] for row in rows)
    return ExpectationSuiteValidationResult(
        success=held == len(rows),
        results=results,
        suite_name=first["table_name"],
        statistics={
            "evaluated_expectations": len(rows),
            "successful_expectations": held,
            "unsuccessful_expectations": len(rows) - held,
            "success_percent": 100 * held / len(rows),
        },
        meta={
            "run_id": run,
            "active_batch_definition": {"data_asset_name": first["table_name"]},
            # What its page shows beside the table's name.
            "batch_kwargs": {"data_asset_name": f"version {first['table_version']}"},
        },
    )


def _observed(row: dict[str, Any]) -> str:
    if row["detail"] is not None:
        return str(row["detail"])
    count = row["unexpected_count"]
    return "" if count is None else f"{count:,} rows break it"


def _check(site: Path, pages: set[tuple[str, str]]) -> None:
    """Great Expectations only logs what it cannot render: see that nothing is missing."""
    index = site / "index.html"
    made = len(list((site / "validations").rglob("*.html")))
    if not index.exists() or not index.read_text() or made != len(pages):
        raise DataDocsError(f"Great Expectations rendered {made} of {len(pages)} pages of results; its log says why")
