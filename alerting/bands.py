"""How a value becomes a band: the one declaration, from which the Python function and the Spark column are both made.

A value is a ``breach`` beyond a rule's limit, in the ``margin`` between the limit and where an alert clears, ``normal``
otherwise, and ``none`` where there is no value. A signal without a rule is normal at any value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import gt, lt
from types import MappingProxyType
from typing import Literal

from alerting.kinds import LimitRule
from alerting.pack import Pack

BandName = Literal["breach", "margin", "normal", "none"]


@dataclass(frozen=True, slots=True)
class Band:
    """Where a value lies; ``rule`` (its id) and ``limit`` are given for a breach and a margin."""

    band: BandName
    rule: str | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """``value operator bound`` gives ``band``, where no earlier arm of the signal did."""

    operator: Literal["<", ">"]
    bound: float
    band: Band


NORMAL = Band("normal")
NONE = Band("none")

Arms = Mapping[str, Mapping[str | None, tuple[Arm, ...]]]
"""By LOINC code, then by care unit (None: every unit without limits of its own): arms in the order they are tried."""

_COMPARE = {"<": lt, ">": gt}


def arms(pack: Pack) -> Arms:
    """Everything a pack says about bands. Build it once: :func:`band_of` is called per value."""
    codes = dict.fromkeys(rule.code for rule in pack.limits)
    return MappingProxyType({code: MappingProxyType(_by_unit(pack.limit_rules(code))) for code in codes})


def _by_unit(rules: tuple[LimitRule, ...]) -> dict[str | None, tuple[Arm, ...]]:
    units = (None, *sorted({unit for rule in rules for unit in rule.units}))
    return {unit: tuple(arm for rule in rules for arm in _of_rule(rule, unit)) for unit in units}


def _of_rule(rule: LimitRule, unit: str | None) -> tuple[Arm, Arm]:
    operator: Literal["<", ">"] = ">" if rule.direction == "above" else "<"
    limit = rule.limit_in(unit)
    return (
        Arm(operator, limit, Band("breach", rule.id, limit)),
        Arm(operator, rule.clear_in(unit), Band("margin", rule.id, limit)),
    )


def band_of(declared: Arms, code: str, value: float | None, location_unit: str | None = None) -> Band:
    """The band of one value, in the signal's unit; NaN and infinity are no value."""
    if value is None or not abs(value) < float("inf"):
        return NONE
    by_unit = declared.get(code)
    if by_unit is None:
        return NORMAL
    for arm in by_unit.get(location_unit, by_unit[None]):
        if _COMPARE[arm.operator](value, arm.bound):
            return arm.band
    return NORMAL


def band(pack: Pack, code: str, value: float | None, location_unit: str | None = None) -> Band:
    """The band of one value under a pack; for many values build :func:`arms` once and call :func:`band_of`."""
    return band_of(arms(pack), code, value, location_unit)


def bands_sql(pack: Pack, *, code: str, value: str, location_unit: str) -> str:
    """The same as one SQL expression of type STRUCT<band STRING, rule STRING, limit DOUBLE>.

    ``code``, ``value`` (DOUBLE) and ``location_unit`` are SQL snippets, such as ``o.code``. The expression holds
    comparisons and literals only, no lambda, so that Spark compiles it in real-time mode.
    """
    by_code = " ".join(
        f"WHEN {code} = '{name}' THEN {_units_sql(by_unit, value, location_unit)}"
        for name, by_unit in arms(pack).items()
    )
    known = f"CASE {by_code} ELSE {_struct(NORMAL)} END" if by_code else _struct(NORMAL)
    # One comparison excludes NULL, NaN (which Spark orders above infinity) and both infinities.
    return f"CASE WHEN abs({value}) < CAST('Infinity' AS DOUBLE) THEN {known} ELSE {_struct(NONE)} END"


def _units_sql(by_unit: Mapping[str | None, tuple[Arm, ...]], value: str, location_unit: str) -> str:
    own = " ".join(
        f"WHEN {location_unit} = '{unit}' THEN {_arms_sql(its, value)}" for unit, its in by_unit.items() if unit
    )
    default = _arms_sql(by_unit[None], value)
    return f"CASE {own} ELSE {default} END" if own else default


def _arms_sql(its: tuple[Arm, ...], value: str) -> str:
    tried = " ".join(f"WHEN {value} {arm.operator} {_double(arm.bound)} THEN {_struct(arm.band)}" for arm in its)
    return f"CASE {tried} ELSE {_struct(NORMAL)} END"


def _struct(given: Band) -> str:
    rule = "CAST(NULL AS STRING)" if given.rule is None else f"'{given.rule}'"
    limit = "CAST(NULL AS DOUBLE)" if given.limit is None else _double(given.limit)
    return f"named_struct('band', '{given.band}', 'rule', {rule}, 'limit', {limit})"


def _double(number: float) -> str:
    return f"CAST({number!r} AS DOUBLE)"
