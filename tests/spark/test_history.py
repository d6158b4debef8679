"""What silver holds of messages gives the same evaluations as the alert flow made of them."""

from typing import Any

import pyarrow as pa

from alerting.evaluation import decode
from alerting.history import devices, evaluations
from alerting.pack import load
from lakehouse.transforms.message import parse
from lakehouse.transforms.observation import accepted, observations, quarantined
from streaming.alert_limits import build
from tests.fixtures.vitals import encoded, heart_rate

ADULT = load("adult")


def of(code: str, value: float | None = None, unit: str | None = None, **more: Any) -> dict[str, Any]:
    return {"code": code, "value": value, "unit": unit, **more}


def test_silver_and_the_alert_flow_give_the_same_evaluations(records):
    low, warm = of("59408-5", 87, "%"), of("8310-5", 101.3, "degF")
    sent = [
        encoded(heart_rate(72), low, warm),
        encoded(heart_rate(121), low, location={"unit": "RESP", "bed": "4"}, status="amended"),
        encoded(heart_rate(0), of("59408-5", 97, "%"), of("67775-7", value_code="V")),
        encoded(heart_rate(900), of("67775-7", value_code="X"), of("no-such-code", 1, "%")),
        encoded(heart_rate(72), device_status={"lead_off": True, "battery": 12.5}),
        encoded(heart_rate(72), device_status={"lead_off": False}, status="entered-in-error"),
        encoded(heart_rate(72), observed_at="2026-03-01T12:30:00Z"),
        encoded(heart_rate(150), heart_rate(160)),
        encoded(heart_rate(118), observed_at="2110-03-01T12:30:00.1239Z", source="mimic-iv"),
        b"no message",
    ]
    # Each message its own id: silver has a value of the same message and instant once.
    sent = [value.replace(b'"m1"', b'"m%d"' % number) for number, value in enumerate(sent)]
    bronze = records(*sent)
    rows = observations(parse(bronze)).persist()
    messages = bronze.select("topic", "partition", "offset", "value").toArrow()

    again = list(evaluations(_arrow(accepted(rows)), _arrow(quarantined(rows)), ADULT, devices=devices(messages)))
    flow = [decode(row.value.encode()) for row in build(bronze, ADULT).collect()]
    rows.unpersist()

    def plain(found: list[Any]) -> list[Any]:
        return [one._replace(readings=tuple(sorted(one.readings, key=str))) for one in found]

    assert len(again) == len(sent) - 1
    # The order of one message's values is not kept: silver has no use for it.
    assert plain(again) == plain(sorted(flow, key=lambda one: one.offset))


def _arrow(frame: Any) -> pa.Table:
    found: pa.Table = frame.toArrow()
    return found
