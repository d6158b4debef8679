"""Topics as a site has them made."""

from lakehouse.topics import TOPICS, declared


def test_without_a_number_topics_have_the_partitions_that_are_declared() -> None:
    assert declared(None) == TOPICS


def test_what_is_divided_by_patient_has_as_many_partitions_as_asked_for_and_the_rest_keeps_one() -> None:
    assert {topic.name: topic.partitions for topic in declared(24)} == {
        "vitals": 24,
        "clinical.resource": 1,
        "alert.evaluations": 24,
        "alert.rules": 1,
        "alert.command": 24,
        "alert.limit": 24,
        "alert.state": 24,
        "alerts": 24,
        "alert.notification": 24,
        "alert.delivery": 24,
        "risk": 24,
        "waveform": 24,
        "audit": 1,
    }
