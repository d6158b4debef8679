from lakehouse.pipeline import FLOWS
from lakehouse.topics import TOPICS
from wardhouse.acl import Right, rights, wanted


def test_a_component_may_do_what_its_flows_declare_and_no_more_than_it_needs() -> None:
    found = rights()
    assert found["risk"].writes == {"risk"}
    assert not found["risk"].reads
    assert found["router"].writes == {"alerts", "alert.state", "alert.notification"}
    assert "vitals" not in found["router"].reads | found["router"].writes
    assert not found["lakehouse"].writes
    assert (found["waveform"].reads, found["waveform"].writes) == ({"waveform"}, set())
    assert "waveform" not in found["lakehouse"].reads
    assert not found["simulator"].reads
    for flow in FLOWS:
        named = {topic.name for topic in TOPICS}
        mine = found[flow.application] if named & {*flow.reads, *flow.writes} else None
        assert mine is None or (named & set(flow.reads) <= mine.reads and named & set(flow.writes) <= mine.writes)


def test_only_a_gateway_and_senders_may_write_what_devices_send() -> None:
    writers = {name for name, one in rights().items() if "vitals" in one.writes}
    assert writers == {"bridge", "gateway", "replay", "simulator"}


def test_permissions_name_the_topics_and_users_of_the_site() -> None:
    found = wanted({"vitals": "patient-data"}, "{component}@ward")
    assert Right("gateway@ward", "topic", "patient-data", "write") in found
    assert Right("router@ward", "group", "ward-router", "read") in found
    assert str(Right("lakehouse@ward", "group", "spark-kafka-", "read", prefix=True)) in map(str, found)
    assert not [right for right in found if right.name == "vitals"]
