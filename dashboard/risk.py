"""The risk that a model has given of a patient, in words. Pure."""

from collections.abc import Mapping
from typing import Any

_SHOWN = 5


def percent(risk: float) -> str:
    """``34 %``; below one per cent with a decimal."""
    return f"{risk * 100:.1f} %" if risk < 0.01 else f"{risk * 100:.0f} %"


def reasons(row: Mapping[str, Any]) -> str:
    """What a row of gold.risk_score rests on: each feature with its value and whether it raises or lowers the risk."""
    told = [_reason(one) for one in row["contributions"][:_SHOWN]]
    return ", ".join(told) or "no feature alone"


def _reason(one: Mapping[str, Any]) -> str:
    value = "not known" if one["value"] is None else f"{one['value']:.4g}"
    arrow = "\N{UPWARDS ARROW}" if one["log_odds"] > 0 else "\N{DOWNWARDS ARROW}"
    return f"{one['feature'].replace('_', ' ')} {value} {arrow}"
