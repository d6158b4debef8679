"""What changes for a ward from one rule pack to another: rules that come, go, or have other values."""

from collections.abc import Iterator, Mapping
from typing import Any

from alerting.kinds import Rule
from alerting.pack import Pack


def differences(old: Pack, new: Pack) -> tuple[str, ...]:
    """A line for each difference, in the order of the new pack, then what is gone; wording counts as well."""
    return (*_header(old, new), *_kept_and_added(old, new), *_gone(old, new))


def _header(old: Pack, new: Pack) -> Iterator[str]:
    for field in ("name", "version", "title"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield f"{field}: {before} -> {after}"


def _kept_and_added(old: Pack, new: Pack) -> Iterator[str]:
    for rule in new.rules:
        before = old.rule(rule.id)
        if before is None:
            yield f"+ {rule.id}: {_words(rule)}"
            continue
        was, now = (dict(_flat(one.model_dump())) for one in (before, rule))
        for field in dict.fromkeys((*was, *now)):
            if was.get(field) != now.get(field):
                yield f"~ {rule.id}: {field}: {was.get(field, 'none')} -> {now.get(field, 'none')}"


def _gone(old: Pack, new: Pack) -> Iterator[str]:
    for rule in old.rules:
        if new.rule(rule.id) is None:
            yield f"- {rule.id}: {_words(rule)}"


def _words(rule: Rule) -> str:
    delay = f" for {rule.delay_s:g} s" if rule.delay_s else ""
    return f"{rule.words()}{delay}, {rule.priority}"


def _flat(declared: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value by its path, ``units.RESP.limit``; whole numbers without a point."""
    for name, value in declared.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", f"{value:g}" if isinstance(value, float) else value
