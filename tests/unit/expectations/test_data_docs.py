"""Data Docs: a real site of Great Expectations from stored results."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from expectations.data_docs import DataDocsError, build, place
from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError
from lakehouse.tables import VALIDATION_RESULT
from tests.fixtures.delta import append

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def result(run: int, rule: str, *, success: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "run_id": f"scheduled__{run}",
        "table_name": "silver.observation",
        "table_version": run,
        "expectation": rule,
        "success": success,
        "unexpected_count": 0,
        "checked_at": NOON + timedelta(hours=run),
    } | more


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_run_is_a_page_that_says_of_each_rule_what_it_is_and_what_was_found(data: DataDir) -> None:
    append(
        data,
        VALIDATION_RESULT,
        result(1, "out_of_range", success=False, unexpected_count=1_200),
        result(1, "unknown_code"),
        result(1, "lagging", unexpected_count=None),
        result(
            1,
            "drifted_heart_rate",
            success=False,
            table_name="gold.vital_sign_minute",
            unexpected_count=None,
            detail="stability index 3.09, limit 0.62",
        ),
    )

    first = build(data)

    assert first == data.root / "quality" / "docs" / "index.html"
    pages = {path.parts[-4]: path.read_text() for path in (first.parent / "validations").rglob("*.html")}
    assert set(pages) == {"observation", "vital_sign_minute"}
    assert "out_of_range: the value is not plausible for this signal" in pages["observation"]
    assert "1,200 rows break it" in pages["observation"]
    assert pages["observation"].count("fa-times text-danger") == 2  # of the table, and of the rule
    assert "drifted_heart_rate: Heart rate of the last day is distributed" in pages["vital_sign_minute"]
    assert "stability index 3.09, limit 0.62" in pages["vital_sign_minute"]
    links = re.findall(r'href="(validations/[^"]+)"', first.read_text())
    assert len(links) == 2
    assert all((first.parent / link).exists() for link in links)
    assert (first.parent / "expectations" / "silver" / "observation.html").exists()


def test_built_again_the_site_is_the_same_to_the_byte_and_older_runs_leave_it(data: DataDir) -> None:
    append(
        data, VALIDATION_RESULT, *(result(run, rule) for run in range(4) for rule in ("unknown_code", "repeated_key"))
    )
    append(data, VALIDATION_RESULT, *(result(run, "no_value", table_name="gold.score_input") for run in range(4)))

    once = files(build(data, runs=3).parent)
    again = files(build(data, runs=3).parent)
    fewer = files(build(data, runs=1).parent)

    assert once == again
    assert {re.findall("scheduled__[0-9]", name)[0] for name in once if name.startswith("validations/")} == {
        "scheduled__1",
        "scheduled__2",
        "scheduled__3",
    }
    assert sorted(name for name in fewer if name.startswith("validations/")) == [
        "validations/gold/score_input/scheduled__3/20260301T150000.000000Z/version-3.html",
        "validations/silver/observation/scheduled__3/20260301T150000.000000Z/version-3.html",
    ]
    assert [path.name for path in (data.root / "quality").iterdir()] == ["docs"]


def test_no_page_asks_another_host_for_anything(data: DataDir) -> None:
    append(data, VALIDATION_RESULT, result(1, "unknown_code"))

    pages = files(build(data).parent)

    assert {name.rsplit(".", 1)[1] for name in pages} == {"html"}
    assert [name for name, page in pages.items() if re.search(rb"(src|href)=.?(https?:)?//|@import|url\(", page)] == []


def test_a_run_of_any_name_stays_in_its_folder_and_what_is_no_longer_declared_is_shown_by_its_name(
    data: DataDir,
) -> None:
    append(
        data,
        VALIDATION_RESULT,
        result(
            1, "once_a_rule", run_id="../../manual / <b>", table_name="silver.gone", unexpected_count=3, success=False
        ),
    )

    site = build(data).parent

    (page,) = (site / "validations").rglob("*.html")
    assert "once_a_rule" in page.read_text()
    assert "3 rows break it" in page.read_text()
    assert "<b>" not in page.read_text()


def test_without_a_stored_run_it_says_what_makes_one(data: DataDir) -> None:
    with pytest.raises(TableMissingError, match=r"quality\.validation_result is not in .* yet"):
        build(data)
    append(data, VALIDATION_RESULT)
    with pytest.raises(DataDocsError, match=r"no run is stored in .* yet: `ward quality run"):
        build(data)


def test_a_page_that_cannot_be_rendered_is_an_error_and_the_old_site_stays(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(data, VALIDATION_RESULT, result(1, "unknown_code"))
    before = files(build(data).parent)
    append(data, VALIDATION_RESULT, result(2, "unknown_code"))
    # Great Expectations logs what it cannot render, and goes on without it.
    monkeypatch.setattr("expectations.docs_view.PageView.render", lambda *_, **__: 1 / 0)

    with pytest.raises(DataDocsError, match="rendered 0 of 2 pages of results"):
        build(data)

    assert files(place(data)) == before
