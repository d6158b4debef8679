"""Which rule pack is in force, as the topic ``alert.rules`` and the router's progress tell."""

from dataclasses import dataclass

from alerting.compacted import newest
from alerting.pack import Pack, PackError, load, names
from alerting.rules_in_force import Applied, applied
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_ROUTER


class UnknownPackError(PackError):
    """The router was started with a pack of the site's own, of which only name and version are known here."""


@dataclass(frozen=True)
class InForce:
    """A pack and how it came to be in force; ``applied`` None: it is what router and alert flow were started with."""

    pack: Pack
    applied: Applied | None = None
    told_by: str = "named with --rules"


def in_force_at(bootstrap_servers: str, topic: str, data: DataDir) -> InForce:
    """The pack that was applied last, else the one that the router on this data dir runs, else the default one.

    Raises PackError (of which UnknownPackError is one) where none can be had, TopicError where no broker answers.
    """
    for value in newest(bootstrap_servers, topic).values():
        found = applied(value)
        if found is not None:
            return InForce(found.pack, found, "applied")
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
