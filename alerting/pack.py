"""Rule packs: what raises an alert and who is told, as versioned YAML that a clinician can review, checked before use.

A pack lives in alerting/rules/NAME.yaml or in any file a site keeps. It is checked whole: unknown fields, limits that
no plausible value reaches, and two rules that would claim the same value are errors that name file, rule and field.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from alerting.kinds import (
    Declared,
    EscalationStep,
    Id,
    LimitRule,
    Margin,
    Priority,
    Rule,
    Text,
    in_order,
)
from lakehouse.strict_yaml import StrictLoader


class PackError(ValueError):
    """A pack cannot be used; each line of the text names file, rule and field."""


class Handling(Declared):
    """How alerts of one priority are told.

    ``channels`` are told at once, those of ``escalation`` when nobody has acknowledged in time. While something that
    a patient's carers were told is open, a further alert waits until ``group_s`` seconds after they were told, and goes
    with what else waits; one of a higher priority than that does not wait.
    """

    channels: tuple[Id, ...] = ()
    escalation: tuple[EscalationStep, ...] = ()
    group_s: Margin = 0

    _in_order = field_validator("escalation")(in_order)


class Notification(Declared):
    """How alerts are told, by priority. Without it nobody is."""

    high: Handling = Handling()
    medium: Handling = Handling()
    low: Handling = Handling()

    def of(self, priority: Priority) -> Handling:
        """The handling of one priority."""
        handling: Handling = getattr(self, priority)
        return handling


class Pack(Declared):
    """A named, versioned set of rules."""

    name: Id
    version: Annotated[int, Field(strict=True, ge=1)]
    title: Text
    notification: Notification = Notification()
    rules: tuple[Rule, ...]

    @property
    def label(self) -> str:
        """Name and version as every evaluation and alert carries it, ``adult@1``."""
        return f"{self.name}@{self.version}"

    @property
    def units(self) -> tuple[str, ...]:
        """Care units with a limit of their own, sorted."""
        return tuple(sorted({unit for rule in self.limits for unit in rule.units}))

    @property
    def limits(self) -> tuple[LimitRule, ...]:
        """The limit rules, in pack order."""
        return tuple(rule for rule in self.rules if isinstance(rule, LimitRule))

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel that the pack tells, sorted."""
        named = {name for rule in self.rules for name in self.channels_of(rule)}
        return tuple(sorted(named | {n for rule in self.rules for s in self.escalation_of(rule) for n in s.channels}))

    def channels_of(self, rule: Rule) -> tuple[str, ...]:
        """Who is told first of an alert of this rule."""
        return self.notification.of(rule.priority).channels if rule.channels is None else rule.channels

    def escalation_of(self, rule: Rule) -> tuple[EscalationStep, ...]:
        """Who is told later when nobody acknowledges."""
        return self.notification.of(rule.priority).escalation if rule.escalation is None else rule.escalation

    def rule(self, rule_id: str) -> Rule | None:
        """The rule of this id, or None."""
        return next((rule for rule in self.rules if rule.id == rule_id), None)

    def limit_rules(self, code: str) -> tuple[LimitRule, ...]:
        """The limit rules of one signal, by LOINC code, in pack order."""
        return tuple(rule for rule in self.limits if rule.code == code)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "Pack":
        repeated = [rule_id for rule_id, count in Counter(rule.id for rule in self.rules).items() if count > 1]
        if repeated:
            raise ValueError(f"rules: id used twice: {', '.join(repeated)}")
        return self

    @model_validator(mode="after")
    def _inhibits_are_known(self) -> "Pack":
        known = {rule.id for rule in self.rules}
        for rule in self.rules:
            if unknown := sorted(set(rule.inhibits) - known | {rule.id} & set(rule.inhibits)):
                raise ValueError(f"rule {rule.id}: inhibits: no other rule of that id: {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _none_inhibits_itself(self) -> "Pack":
        try:
            TopologicalSorter({rule.id: rule.inhibits for rule in self.rules}).prepare()
        except CycleError as error:
            raise ValueError(f"rules inhibit each other in a circle: {' -> '.join(error.args[1])}") from error
        return self

    @model_validator(mode="after")
    def _rules_are_apart(self) -> "Pack":
        problems = list(overlaps(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def overlaps(pack: Pack) -> Iterator[str]:
    """Pairs of rules that would claim the same value of a signal, by limit or margin, in words."""
    for code in dict.fromkeys(rule.code for rule in pack.limits):
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


def load(name: str | Path = "adult") -> Pack:
    """The pack of a name (one that comes with the project) or of a path. Raises PackError."""
    text, origin = read(name)
    return parse(text, origin)


def read(name: str | Path) -> tuple[str, str]:
    """The YAML text of a pack, by its name or path, and what errors call it. Raises PackError."""
    path = name if isinstance(name, Path) else Path(name)
    if path.suffix in (".yaml", ".yml"):
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise PackError(f"{path}: cannot be read: {error}") from error
    built_in = resources.files("alerting.rules").joinpath(f"{name}.yaml")
    if not built_in.is_file():
        raise PackError(f"{name}: no such rule pack; known: {', '.join(names())}; or give the path of a .yaml file")
    return built_in.read_text(encoding="utf-8"), f"alerting/rules/{name}.yaml"


def names() -> tuple[str, ...]:
    """The packs that come with the project."""
    files = (entry.name for entry in resources.files("alerting.rules").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def parse(text: str, origin: str) -> Pack:
    """The pack that a YAML text declares; ``origin`` is its name in errors. Raises PackError."""
    try:
        declared = yaml.load(text, StrictLoader)  # noqa: S506 - a SafeLoader that refuses repeated keys
    except yaml.YAMLError as error:
        raise PackError(f"{origin}: not readable as YAML: {' '.join(str(error).split())}") from error
    except (RecursionError, ValueError) as error:
        # What looks like a date and is none, or is nested too deeply: PyYAML has no error of its own for these.
        raise PackError(f"{origin}: not readable as YAML: {error}") from error
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
            if location and _kind_of(declared, part["loc"][1]) == location[0]:
                # pydantic names the kind where a rule has one; the reader sees it in the rule.
                location = location[1:]
        if part["type"].startswith("union_tag"):
            location.append("kind")
        if location:
            where += f": {'.'.join(str(step) for step in location)}"
        yield f"{where}: {text}"


def _rule_name(declared: object, index: int | str) -> str:
    """The id of a rule that failed, or its place where it has none."""
    name = _rule(declared, index).get("id")
    return str(name) if name else f"number {int(index) + 1}"


def _kind_of(declared: object, index: int | str) -> Any:
    return _rule(declared, index).get("kind")


def _rule(declared: object, index: int | str) -> Mapping[str, Any]:
    rules = declared.get("rules") if isinstance(declared, Mapping) else None
    rule = rules[index] if isinstance(rules, list) and isinstance(index, int) else None
    return rule if isinstance(rule, Mapping) else {}
