"""Rule packs: what raises an alert, as versioned YAML that a clinician can review, checked before it is used.

A pack lives in alerting/rules/NAME.yaml or in any file a site keeps. It is checked whole: unknown fields, limits that
no plausible value reaches, and two rules that would claim the same value are errors that name file, rule and field.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lakehouse.vocabulary import Signal, plausible, signal_by_name

Priority = Literal["high", "medium", "low"]
Category = Literal["physiological", "technical"]
Direction = Literal["above", "below"]

_Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Margin = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
_Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
_Text = Annotated[str, Field(min_length=1)]
# What may stand in a SQL literal as it is.
_UnitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/-]*$")]


class PackError(ValueError):
    """A pack cannot be used; each line of the text names file, rule and field."""


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UnitLimit(_Declared):
    """The limit of one care unit, in place of the rule's own."""

    limit: _Finite
    clear_margin: _Margin
    rationale: _Text


class _Rule(_Declared):
    """What rules of every kind have in common."""

    id: _Id
    title: _Text
    priority: Priority
    category: Category
    rationale: _Text
    reference: _Text


class LimitRule(_Rule):
    """A value of one signal above or below a limit, both in the signal's unit.

    ``clear_margin`` is the hysteresis: an alert clears only when the value is that far on the good side of the limit.
    ``delay_s`` is how long, in seconds of observed time, the breach must last before the alert becomes active.
    """

    kind: Literal["limit"]
    signal: str
    direction: Direction
    limit: _Finite
    clear_margin: _Margin
    delay_s: _Margin = 0
    units: dict[_UnitName, UnitLimit] = {}

    @field_validator("signal")
    @classmethod
    def _is_numeric_signal(cls, name: str) -> str:
        numeric = [signal.name for signal in signal_by_name().values() if not signal.coded]
        if name not in numeric:
            raise ValueError(f"not a numeric signal; known: {', '.join(numeric)}")
        return name

    @model_validator(mode="after")
    def _is_reachable(self) -> "LimitRule":
        for unit in (None, *self.units):
            limit, clear = self.limit_in(unit), self.clear_in(unit)
            if not (plausible(self.measured, limit) and plausible(self.measured, clear)):
                where = f" in unit {unit}" if unit else ""
                raise ValueError(
                    f"limit {limit:g}{where} clears at {clear:g},"
                    f" but {self.signal} is plausible {bounds(self.measured)}"
                )
        return self

    @property
    def measured(self) -> Signal:
        """The signal of the vocabulary."""
        return signal_by_name()[self.signal]

    @property
    def code(self) -> str:
        """LOINC code of the signal."""
        return self.measured.code

    def limit_in(self, unit: str | None) -> float:
        """The limit in one care unit."""
        return self.units[unit].limit if unit in self.units else self.limit

    def margin_in(self, unit: str | None) -> float:
        """The clear margin in one care unit."""
        return self.units[unit].clear_margin if unit in self.units else self.clear_margin

    def clear_in(self, unit: str | None) -> float:
        """The value at which an alert of this rule clears in one care unit."""
        margin = self.margin_in(unit)
        signed = -margin if self.direction == "above" else margin
        # 38.5 - 0.3 must be 38.2 and not its neighbour: a value is held against the number a reader computes.
        return round(self.limit_in(unit) + signed, 6)


Rule = LimitRule
"""A rule of any kind. Another kind is a class with its own ``kind``, joined here in a union discriminated by it."""


class Pack(_Declared):
    """A named, versioned set of rules."""

    name: _Id
    version: Annotated[int, Field(strict=True, ge=1)]
    title: _Text
    rules: tuple[Rule, ...]

    @property
    def label(self) -> str:
        """Name and version as every evaluation and alert carries it, ``adult@1``."""
        return f"{self.name}@{self.version}"

    @property
    def units(self) -> tuple[str, ...]:
        """Care units with a limit of their own, sorted."""
        return tuple(sorted({unit for rule in self.rules for unit in rule.units}))

    def rule(self, rule_id: str) -> Rule | None:
        """The rule of this id, or None."""
        return next((rule for rule in self.rules if rule.id == rule_id), None)

    def limit_rules(self, code: str) -> tuple[LimitRule, ...]:
        """The limit rules of one signal, by LOINC code, in pack order."""
        return tuple(rule for rule in self.rules if rule.code == code)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "Pack":
        repeated = [rule_id for rule_id, count in Counter(rule.id for rule in self.rules).items() if count > 1]
        if repeated:
            raise ValueError(f"rules: id used twice: {', '.join(repeated)}")
        return self

    @model_validator(mode="after")
    def _rules_are_apart(self) -> "Pack":
        problems = list(overlaps(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def overlaps(pack: Pack) -> Iterator[str]:
    """Pairs of rules that would claim the same value of a signal, by limit or margin, in words."""
    for code in dict.fromkeys(rule.code for rule in pack.rules):
        rules = pack.limit_rules(code)
        for index, one in enumerate(rules):
            for other in rules[index + 1 :]:
                yield from _overlap(one, other)


def _overlap(one: LimitRule, other: LimitRule) -> Iterator[str]:
    if one.direction == other.direction:
        yield f"rules {one.id} and {other.id}: direction: both watch {one.signal} {one.direction} a limit"
        return
    high, low = (one, other) if one.direction == "above" else (other, one)
    for unit in (None, *sorted({*one.units, *other.units})):
        if low.clear_in(unit) > high.clear_in(unit):
            where = f" in unit {unit}" if unit else ""
            yield (
                f"rules {low.id} and {high.id}: limit: {low.signal} clears at {low.clear_in(unit):g} and at "
                f"{high.clear_in(unit):g}{where}, so that no value is normal for both"
            )


def bounds(signal: Signal) -> str:
    """What is plausible for a signal, in words: ``above 0 and at most 100``."""
    named = (
        ("above", signal.above),
        ("at least", signal.at_least),
        ("below", signal.below),
        ("at most", signal.at_most),
    )
    return " and ".join(f"{word} {limit:g}" for word, limit in named if limit is not None)


def load(name: str | Path = "adult") -> Pack:
    """The pack of a name (one that comes with the project) or of a path. Raises PackError."""
    path = name if isinstance(name, Path) else Path(name)
    if path.suffix in (".yaml", ".yml"):
        try:
            return parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise PackError(f"{path}: cannot be read: {error}") from error
    built_in = resources.files("alerting.rules").joinpath(f"{name}.yaml")
    if not built_in.is_file():
        raise PackError(f"{name}: no such rule pack; known: {', '.join(names())}; or give the path of a .yaml file")
    return parse(built_in.read_text(encoding="utf-8"), f"alerting/rules/{name}.yaml")


def names() -> tuple[str, ...]:
    """The packs that come with the project."""
    files = (entry.name for entry in resources.files("alerting.rules").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def parse(text: str, origin: str) -> Pack:
    """The pack that a YAML text declares; ``origin`` is its name in errors. Raises PackError."""
    try:
        declared = yaml.load(text, _StrictLoader)  # noqa: S506 - a SafeLoader that refuses repeated keys
    except yaml.YAMLError as error:
        raise PackError(f"{origin}: not readable as YAML: {' '.join(str(error).split())}") from error
    try:
        return Pack.model_validate(declared)
    except ValidationError as error:
        raise PackError("\n".join(_lines(error, declared, origin))) from error


def _lines(error: ValidationError, declared: object, origin: str) -> Iterator[str]:
    for part in error.errors(include_url=False):
        location = list(part["loc"])
        text = part["msg"].removeprefix("Value error, ")
        where = origin
        if location[:1] == ["rules"] and len(location) > 1:
            where += f": rule {_rule_name(declared, location[1])}"
            location = location[2:]
        if location:
            where += f": {'.'.join(str(step) for step in location)}"
        yield f"{where}: {text}"


def _rule_name(declared: object, index: int | str) -> str:
    """The id of a rule that failed, or its place where it has none."""
    rules = declared.get("rules") if isinstance(declared, Mapping) else None
    rule = rules[index] if isinstance(rules, list) and isinstance(index, int) else None
    name = rule.get("id") if isinstance(rule, Mapping) else None
    return str(name) if name else f"number {int(index) + 1}"


class _StrictLoader(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence; a limit given twice must be an error instead."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [str(key) for key, count in Counter(map(str, keys)).items() if count > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"given twice: {', '.join(repeated)}", node.start_mark)
        return super().construct_mapping(node, deep)
