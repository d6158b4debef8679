"""What each component may do with which topic, and the access control lists of Kafka that say so: the least it needs.

What a flow reads and writes is declared with it (lakehouse/pipeline.py); what a component needs beside its flows, and
what is no flow, stands here. Whoever may read or write a topic may also ask what it is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import SecurityDisabledError

from alerting import notifier, router, tracer
from gateway import bridge
from lakehouse.pipeline import FLOWS
from lakehouse.topics import (
    ALERT_COMMAND,
    ALERT_DELIVERY,
    ALERT_EVALUATIONS,
    ALERT_LIMIT,
    ALERT_NOTIFICATION,
    ALERT_RULES,
    ALERT_STATE,
    ALERTS,
    AUDIT,
    CLINICAL_RESOURCE,
    TOPICS,
    VITALS,
    WAVEFORM,
    Topic,
)
from wardhouse.errors import Failure
from wardhouse.topics import Names, administration

USER = "ward-{component}"
_SPARK = frozenset({"spark-kafka-*"})
"""Groups that Spark makes up, one a query."""
_LITERAL, _PREFIXED = ACLResourcePatternType.LITERAL, ACLResourcePatternType.PREFIXED


@dataclass(frozen=True)
class Rights:
    """What a component reads, writes, and only asks about: declared names of topics.

    ``groups`` are the consumer groups that it is in, ``watches`` those of which it asks how far they are; a name that
    ends with ``*`` is a prefix.
    """

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    describes: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    watches: frozenset[str] = frozenset()


@dataclass(frozen=True, order=True)
class Right:
    """One permission: an operation on a topic or a group, for a user of Kafka."""

    user: str
    kind: str
    name: str
    operation: str
    prefix: bool = False

    def __str__(self) -> str:
        return f"{self.user} may {self.operation} {self.kind} {self.name}{'*' if self.prefix else ''}"


def _names(*topics: Topic) -> frozenset[str]:
    return frozenset(topic.name for topic in topics)


_BESIDE = {
    # It goes on behind its own last evaluations.
    "alerts": Rights(reads=_names(ALERT_EVALUATIONS), groups=_SPARK),
    **dict.fromkeys(("lakehouse", "waveform"), Rights(groups=_SPARK)),
    # Its own state, and whether messages wait for the alert flow.
    "router": Rights(reads=_names(ALERT_STATE), describes=_names(VITALS, ALERTS), groups=frozenset({router.GROUP})),
    "notify": Rights(reads=_names(ALERT_DELIVERY), groups=frozenset({notifier.GROUP})),
    "trace": Rights(reads=_names(ALERTS, ALERT_NOTIFICATION, ALERT_DELIVERY), groups=frozenset({tracer.GROUP})),
    # The topic that it reads is the site's own, and so is the right to.
    "bridge": Rights(writes=_names(VITALS), groups=frozenset({bridge.GROUP.format(topic="*")})),
    "gateway": Rights(
        reads=_names(ALERT_EVALUATIONS, ALERTS, ALERT_STATE, ALERT_COMMAND, ALERT_RULES),
        writes=_names(VITALS, CLINICAL_RESOURCE, WAVEFORM, ALERT_COMMAND, AUDIT),
    ),
    "dashboard": Rights(reads=_names(ALERT_STATE, ALERT_COMMAND), writes=_names(ALERT_COMMAND, AUDIT)),
    **dict.fromkeys(("simulator", "replay"), Rights(writes=_names(VITALS, CLINICAL_RESOURCE, WAVEFORM))),
    # `ward rules`, `limits`, `alerts`, `link` and `verify`, as people call them.
    "operator": Rights(
        reads=_names(*TOPICS),
        writes=_names(ALERT_RULES, ALERT_LIMIT, ALERT_COMMAND, AUDIT),
        groups=_SPARK,
        watches=frozenset({router.GROUP, notifier.GROUP}),
    ),
}
_KNOWN = _names(*TOPICS)


def rights() -> dict[str, Rights]:
    """What every component may do, by its name."""
    found = dict(_BESIDE)
    for flow in FLOWS:
        reads, writes = _KNOWN.intersection(flow.reads), _KNOWN.intersection(flow.writes)
        if reads or writes:
            beside = found.get(flow.application, Rights())
            found[flow.application] = replace(beside, reads=beside.reads | reads, writes=beside.writes | writes)
    return found


def wanted(names: Names, user: str = USER) -> list[Right]:
    """Every permission, for the users that ``user`` makes of component names; ``names`` are the site's topic names."""
    return sorted(right for name, one in rights().items() for right in _of(one, user.format(component=name), names))


def _of(one: Rights, user: str, names: Names) -> Iterator[Right]:
    for operation, topics in (("read", one.reads), ("write", one.writes), ("describe", one.describes)):
        yield from (Right(user, "topic", names.get(topic, topic), operation) for topic in topics)
    for operation, groups in (("read", one.groups), ("describe", one.watches)):
        for group in groups:
            yield Right(user, "group", group.removesuffix("*"), operation, prefix=group.endswith("*"))


def missing(bootstrap: str, rights: Iterable[Right]) -> list[Right]:
    """Those of the permissions that the brokers do not have. Raises Failure where they keep none at all."""
    with administration(bootstrap) as client:
        found = _found(client)
        return [right for right in rights if _key(_acl(right)) not in found]


def allow(bootstrap: str, rights: Iterable[Right]) -> None:
    """Give these permissions. Raises Failure."""
    with administration(bootstrap) as client:
        answer = client.create_acls([_acl(right) for right in rights])
        if failed := answer["failed"]:
            raise Failure(f"Kafka at {bootstrap} refused {len(failed)} permissions: {failed[0][1]}")


def _found(client: KafkaAdminClient) -> set[tuple[object, ...]]:
    everything = ACLFilter(
        None,
        None,
        ACLOperation.ANY,
        ACLPermissionType.ALLOW,
        ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
    )
    try:
        acls, _ = client.describe_acls(everything)
    except SecurityDisabledError as error:
        raise Failure(
            "these brokers let everybody do everything: set authorizer.class.name on them (docs/kafka.md)"
        ) from error
    return {_key(acl) for acl in acls}


def _acl(right: Right) -> ACL:
    pattern = ResourcePattern(ResourceType[right.kind.upper()], right.name, _PREFIXED if right.prefix else _LITERAL)
    return ACL(f"User:{right.user}", "*", ACLOperation[right.operation.upper()], ACLPermissionType.ALLOW, pattern)


def _key(acl: ACL) -> tuple[object, ...]:
    pattern = acl.resource_pattern
    return acl.principal, acl.operation, pattern.resource_type, pattern.resource_name, pattern.pattern_type
