"""Which rule pack is in force, as a command on this data dir can tell."""

from dataclasses import dataclass

from alerting import rules_in_force
from alerting.compacted import TopicError, newest
from alerting.pack import Pack, PackError, load, names
from alerting.rules_in_force import Applied
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_ROUTER
from lakehouse.topics import ALERT_RULES
from wardhouse.broker import bootstrap_servers
from wardhouse.settings import Settings


class UnknownPackError(PackError):
    """The router was started with a pack of the site's own, of which only name and version are known here."""


@dataclass(frozen=True)
class InForce:
    """A pack and how it came to be in force; ``applied`` None: it is what router and alert flow were started with."""

    pack: Pack
    applied: Applied | None = None
    told_by: str = "named with --rules"


def in_force(settings: Settings, data: DataDir, rules: str | None = None) -> InForce:
    """The pack that was applied last, else the one that the router on this data dir runs, else the default one.

    ``rules`` names another one instead. Raises PackError (of which UnknownPackError is one) where none can be had,
    TopicError where no broker answers.
    """
    if rules is not None:
        return InForce(load(rules))
    for value in newest(bootstrap_servers(settings, data), settings.topic(ALERT_RULES)).values():
        applied = rules_in_force.applied(value)
        if applied is not None:
            return InForce(applied.pack, applied, "applied")
    return started_with(data)


def in_force_or_started_with(settings: Settings, data: DataDir, rules: str | None = None) -> InForce:
    """The same; where no broker answers, what the router was started with. Raises PackError."""
    try:
        return in_force(settings, data, rules)
    except TopicError:
        return started_with(data)


def started_with(data: DataDir) -> InForce:
    """The pack of which the router's progress last told. Raises UnknownPackError where it does not come with ward."""
    said = progress.last(data.progress(ALERT_ROUTER.name))
    label = said.get("pack") if said else None
    if label is None:
        return InForce(load(), None, "the default: no router has told of another one")
    name = str(label).split("@")[0]
    pack = load(name) if name in names() else None
    if pack is None or pack.label != label:
        raise UnknownPackError(f"the router runs {label}, which does not come with ward: name its .yaml file")
    return InForce(pack, None, "what the router runs")
