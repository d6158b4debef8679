"""Pictures of benchmarks are those of the tables beside them."""

from pathlib import Path

from bench import charts


def test_the_picture_of_rates_is_drawn_from_the_table_of_the_page(tmp_path: Path) -> None:
    charts.rates(charts.PAGE.read_text(encoding="utf-8"), tmp_path / "rates.svg")

    again = "`python -m bench.charts` draws it anew"
    assert (tmp_path / "rates.svg").read_text() == (charts.IMAGES / "rates.svg").read_text(), again
