from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_EVENT, ALERT_NOTIFICATION, ALERT_ROUTER, AUDIT_EVENT, DEVICE_MESSAGE, OBSERVATION
from wardhouse.component import component
from wardhouse.settings import Settings
from wardhouse.status import unlanded

NAMES = Settings().topics()


def committed(data: DataDir, flow: str, sources: str) -> None:
    checkpoint = data.checkpoints / flow / "1"
    for folder, text in (("offsets", f"v1\n{{}}\n{sources}"), ("commits", "v1\n{}")):
        (checkpoint / folder).mkdir(parents=True)
        (checkpoint / folder / "0").write_text(text)


def test_what_nobody_has_taken_is_unlanded(data: DataDir) -> None:
    ends = {
        ("vitals", 0): 10,
        ("vitals", 1): 0,
        ("clinical.resource", 0): 2,
        ("alert.evaluations", 1): 9,
        ("alerts", 0): 1,
        ("alert.notification", 1): 2,
        ("alert.delivery", 0): 3,
        ("audit", 0): 4,
    }
    assert unlanded(Settings(), data, ends, {}) == {
        DEVICE_MESSAGE.name: 12,
        ALERT_ROUTER.name: 9,
        ALERT_EVENT.name: 1,
        ALERT_NOTIFICATION.name: 5,
        AUDIT_EVENT.name: 4,
    }


def test_what_every_flow_has_committed_is_landed(data: DataDir) -> None:
    ends = {
        ("vitals", 0): 10,
        ("vitals", 1): 4,
        ("alert.evaluations", 0): 9,
        ("alerts", 0): 1,
        ("alert.delivery", 0): 3,
    }
    committed(data, DEVICE_MESSAGE.name, '{"vitals": {"0": 10, "1": 3}}')
    committed(data, ALERT_EVENT.name, '{"alerts": {"0": 1}}')
    committed(data, ALERT_NOTIFICATION.name, '{"alert.delivery": {"0": 3}}')
    committed(data, OBSERVATION.name, "-")
    router_at = {("alert.evaluations", 0): 9}
    assert unlanded(Settings(), data, ends, router_at) == {DEVICE_MESSAGE.name: 1}
    assert unlanded(Settings(), data, {**ends, ("vitals", 1): 3}, router_at) == {}


def test_silver_has_to_take_what_bronze_has_written_but_not_its_maintenance(data: DataDir) -> None:
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    from lakehouse.tables import DEVICE_MESSAGE as BRONZE

    path = str(data.table(BRONZE))
    for value in (1, 2):
        write_deltalake(path, pa.table({"offset": [value]}), mode="append")
    assert unlanded(Settings(), data, {}, {}) == {OBSERVATION.name: 2}
    committed(data, OBSERVATION.name, '{"reservoirId": "x", "reservoirVersion": 2, "index": -1}')
    assert unlanded(Settings(), data, {}, {}) == {}
    DeltaTable(path).optimize.compact()
    assert unlanded(Settings(), data, {}, {}) == {}


def test_waveforms_are_waited_for_where_an_application_runs_that_lands_them(data: DataDir) -> None:
    ends = {("waveform", 0): 5, ("waveform", 1): 2}
    assert unlanded(Settings(), data, ends, {}) == {}
    with component(data, "stream-waveform"):
        assert unlanded(Settings(), data, ends, {}) == {"waveform_message": 7}
        committed(data, "waveform_message", '{"waveform": {"0": 5, "1": 2}}')
        assert unlanded(Settings(), data, ends, {}) == {}
