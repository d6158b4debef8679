"""Which rule pack is in force, as a command on this data dir can tell."""

from alerting.compacted import TopicError
from alerting.in_force import InForce, in_force_at, started_with
from alerting.pack import load
from lakehouse.datadir import DataDir
from lakehouse.topics import ALERT_RULES
from wardhouse.broker import bootstrap_servers
from wardhouse.settings import Settings


def in_force(settings: Settings, data: DataDir, rules: str | None = None) -> InForce:
    """The pack that was applied last, else the one that the router on this data dir runs, else the default one.

    ``rules`` names another one instead. Raises PackError (of which UnknownPackError is one) where none can be had,
    TopicError where no broker answers.
    """
    if rules is not None:
        return InForce(load(rules))
    return in_force_at(bootstrap_servers(settings, data), settings.topic(ALERT_RULES), data)


def in_force_or_started_with(settings: Settings, data: DataDir, rules: str | None = None) -> InForce:
    """The same; where no broker answers, what the router was started with. Raises PackError."""
    try:
        return in_force(settings, data, rules)
    except TopicError:
        return started_with(data)
