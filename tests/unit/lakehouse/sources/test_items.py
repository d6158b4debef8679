import csv
import gzip
from pathlib import Path

import pytest

from lakehouse.sources.items import Item, items, monitor_columns
from lakehouse.vocabulary import rows, signal_by_code, units

MAPS = ("mimic_iii_item", "mimic_iii_lab_item", "mimic_iv_item", "mimic_iv_lab_item")
FILES = (*(f"{name}.csv" for name in MAPS), "monitor_csv_column.csv")
UNIT_OF = {unit.text: unit.unit for unit in units()}


@pytest.mark.parametrize("name", FILES)
def test_every_code_is_mapped_once_to_a_signal_in_a_unit_that_it_is_measured_in(name: str) -> None:
    mapped = list(rows(name))
    ids = [row.get("itemid", row.get("column")) for row in mapped]
    assert len(set(ids)) == len(ids)
    assert [
        row
        for row in mapped
        if UNIT_OF[row["unit"].lower()] != signal_by_code()[row["code"]].unit or not row["provenance"]
    ] == []


@pytest.mark.parametrize("item_map", MAPS)
def test_a_charted_unit_never_means_another_unit_elsewhere(item_map: str) -> None:
    # Torr is the one text that the chart itself uses wrongly.
    wrong = {
        (item_id, text)
        for item_id, item in items(item_map).items()
        for text in item.charted_units
        if text in UNIT_OF and UNIT_OF[text] != UNIT_OF[item.unit.lower()]
    }
    assert wrong == set()


def test_the_unit_is_the_maps_unless_the_row_says_another() -> None:
    celsius = Item("8310-5", "Cel", frozenset({"deg. c"}))
    oxygen = Item("3150-6", "%", fractions=True)
    assert [celsius.unit_for("", 37.0), celsius.unit_for("Deg. C", 37.0), celsius.unit_for("°F", 98.6)] == [
        "Cel",
        "Cel",
        "°F",
    ]
    assert [oxygen.unit_for("", number) for number in (0.0, 0.21, 1.0, 21.0, None)] == ["%", "1", "1", "%", "%"]


def test_a_text_of_the_map_stands_for_its_number_and_any_other_for_the_one_beside_it() -> None:
    verbal = items("mimic_iii_item")["723"]
    assert [verbal.number_for(text, 1.0) for text in ("1.0 ET/Trach", " 1.0 ET/Trach ", "1 No Response", "")] == [
        0.0,
        0.0,
        1.0,
        1.0,
    ]


def test_monitor_columns_keep_heart_rate_and_pulse_and_both_pressures_apart() -> None:
    assert {column: item.code for column, item in monitor_columns().items()} == {
        "HR": "8867-4",
        "PULSE": "8889-8",
        "RESP": "9279-1",
        "SpO2": "59408-5",
        "ABPSys": "8480-6",
        "ABPDias": "8462-4",
        "ABPMean": "8478-0",
        "NBPSys": "8480-6",
        "NBPDias": "8462-4",
        "NBPMean": "8478-0",
    }


@pytest.mark.parametrize(
    ("name", "dictionary"),
    [
        ("mimic_iii_item.csv", "mimic-iii-demo/D_ITEMS.csv.gz"),
        ("mimic_iii_lab_item.csv", "mimic-iii-demo/D_LABITEMS.csv.gz"),
        ("mimic_iv_item.csv", "mimic-iv-demo/icu/d_items.csv.gz"),
        ("mimic_iv_lab_item.csv", "mimic-iv-demo/hosp/d_labitems.csv.gz"),
    ],
)
def test_labels_are_those_of_the_dictionary(shared_data: Path, name: str, dictionary: str) -> None:
    with gzip.open(shared_data / dictionary, "rt", encoding="utf-8") as lines:
        known = {row["itemid"]: row for row in csv.DictReader(lines)}
    beside = "dbsource" if name == "mimic_iii_item.csv" else "category"
    assert [(row["label"], row[beside]) for row in rows(name)] == [
        (known[row["itemid"]]["label"], known[row["itemid"]][beside]) for row in rows(name)
    ]
