from lakehouse.checkpoint import Position
from lakehouse.datadir import DataDir
from streaming.verify import Broker, _between, _waiting
from tests.fixtures.streams import config_of

BROKER = Broker(
    first={"vitals": {0: 0, 1: 40}, "clinical.resource": {0: 0}},
    end={"vitals": {0: 100, 1: 50}, "clinical.resource": {0: 3}},
)


def test_what_kafka_holds_behind_the_commit_of_bronze_waits_for_it(tmp_path) -> None:
    config = config_of(DataDir(tmp_path))
    at = Position(7, ({"vitals": {"0": 90, "1": 30}},), in_flight=False)
    assert _waiting(config, BROKER, at) == (
        {"vitals": {0: 90, 1: 40}, "clinical.resource": {0: 0}},
        {"vitals": {0: 100, 1: 50}, "clinical.resource": {0: 3}},
    )
    assert _waiting(config, BROKER, None)[0] == {"vitals": {0: 0, 1: 40}, "clinical.resource": {0: 0}}


def test_offsets_between_two_positions_as_a_condition() -> None:
    assert _between({"vitals": {0: 90}}, {"vitals": {0: 100}}) == (
        "(topic = 'vitals' AND partition = 0 AND offset >= 90 AND offset < 100)"
    )
