"""Maps from a source's own codes to signals: the CSV files that a clinician may review, read here alone.

A map gives each code a LOINC code and the unit of its numbers. ``charted_units`` are the unit texts (in any case) that
the source writes for that unit, wrong ones included: MIMIC-III charts the oxygen fraction of item 190 in torr. Another
text is passed on as it is, so that silver converts it, or quarantines the value as unknown_unit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from lakehouse.vocabulary import rows

_FRACTION = "1"
"""UCUM unity, which silver converts to per cent."""


@dataclass(frozen=True)
class Item:
    """A code of a source: the signal it charts (LOINC), the unit of its numbers, and what the source calls that unit.

    ``fractions``: numbers up to 1 are fractions among percentages. No inspired oxygen is 1 % or less, so nothing else
    can be meant (mimic-code, pivoted_bg_art.sql and bg.sql, reads them so).
    ``texts``: texts that say more than the number beside them, and the number that they stand for. A patient with a
    tube is charted as 1, as one who does not speak; 0 tells that it could not be tested (mimic-code, gcs.sql).
    """

    code: str
    unit: str
    charted_units: frozenset[str] = frozenset()
    fractions: bool = False
    texts: Mapping[str, float] = field(default_factory=dict)

    def number_for(self, text: str, number: float | None) -> float | None:
        """The number to send, for the row's text and number."""
        return self.texts.get(text.strip(), number) if self.texts else number

    def unit_for(self, charted: str, number: float | None) -> str:
        """The unit to send, for the row's unit text (which may be empty) and its number."""
        if charted and charted.lower() not in self.charted_units:
            return charted
        if self.fractions and number is not None and 0 < number <= 1:
            return _FRACTION
        return self.unit


@cache
def items(item_map: str) -> Mapping[str, Item]:
    """Mapped items by item id, of a map of the vocabulary such as ``mimic_iii_item``."""
    return {
        row["itemid"]: Item(
            code=row["code"],
            unit=row["unit"],
            charted_units=frozenset(text.lower() for text in row["charted_units"].split(";")),
            fractions=row["fractions"] == "true",
            texts=_texts(row["texts"]),
        )
        for row in rows(f"{item_map}.csv")
    }


def _texts(cell: str) -> Mapping[str, float]:
    pairs = (pair.rpartition("=") for pair in cell.split(";") if pair)
    return {text: float(number) for text, _, number in pairs}


@cache
def monitor_columns() -> Mapping[str, Item]:
    """Mapped columns of a monitor's numerics file, by name in the file's own spelling."""
    return {row["column"]: Item(row["code"], row["unit"]) for row in rows("monitor_csv_column.csv")}
