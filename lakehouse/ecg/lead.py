"""Leads by their code of ISO/IEEE 11073-10101 (MDC), as vocabulary/ecg_lead.csv has them."""

from functools import cache

from lakehouse.vocabulary import rows

UNSPECIFIED = "131328"
"""MDC_ECG_ELEC_POTL: an ECG of which nobody says the lead."""


@cache
def code_by_lead() -> dict[str, str]:
    """The MDC code of each lead's name in lower case: ``ii``, ``avf``, ``mlii``."""
    return {row["lead"].lower(): row["code"] for row in rows("ecg_lead.csv")}


@cache
def lead_codes() -> frozenset[str]:
    """Every code of a lead."""
    return frozenset(code_by_lead().values())
