"""What is remembered of a patient, and how much."""

from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from alerting.memory import TREND_MS, Memory, MemoryRecord, needs, restored
from alerting.pack import load
from lakehouse.vocabulary import signal_by_name
from tests.fixtures.bedside import Bedside, ms, pack_of, rule

RULES = (
    rule("fast", "limit", signal="heart_rate", direction="above", limit=120, clear_margin=5),
    rule("falling", "rate", signal="systolic_bp", direction="fall", change=40, window_s=1800, clear_margin=10),
    rule("flat", "flat_line", signal="heart_rate", after_s=60),
    rule("silent", "silence", after_s=60),
    rule("spo2-silent", "silence", signal="spo2", after_s=60),
)
PACK = pack_of(*RULES)
HR, SBP, SPO2, TEMPERATURE = (
    signal_by_name()[name].code for name in ("heart_rate", "systolic_bp", "spo2", "temperature")
)


class Remembering:
    """A memory, given messages."""

    def __init__(self) -> None:
        self.memory = Memory()
        self._ward = Bedside(PACK)
        self._needs = needs(PACK.rules)

    def take(self, at: float, **fields: Any) -> Memory:
        self.memory.take(self._ward.message(at, **fields), self._needs)
        return self.memory

    def forget(self, at: float, **fields: Any) -> Memory:
        self.memory.forget(self._ward.message(at, **fields))
        return self.memory


def last(memory: Memory) -> dict[str, Any]:
    return {code: seen.value for code, seen in memory.last.items()}


def inputs(memory: Memory) -> dict[str, Any]:
    return {name: seen.value for name, seen in memory.inputs.items()}


def test_what_a_pack_needs_is_remembered_and_nothing_else() -> None:
    wanted = needs(PACK.rules)
    assert (wanted[HR].width, wanted[HR].length, wanted[HR].flat, wanted[HR].heard) == (60_000, TREND_MS, True, False)
    assert (wanted[SBP].width, wanted[SBP].length) == (60_000, 1_800_000)
    assert (wanted[SPO2].width, wanted[SPO2].heard, wanted[SPO2].name) == (0, True, "spo2")
    assert wanted[SPO2].plain == "spo2"
    oxygen = wanted[signal_by_name()["oxygen_flow"].code]
    assert (oxygen.name, oxygen.plain) == ("oxygen_flow", None)
    glucose = signal_by_name()["glucose"].code
    assert (wanted[glucose].name, wanted[glucose].width, wanted[glucose].heard) == (None, 0, False)


def test_the_newest_value_of_each_signal_is_kept_and_an_older_one_left_out() -> None:
    of = Remembering()
    of.take(10, heart_rate=80.0, spo2=97.0)
    of.take(5, heart_rate=130.0, temperature=37.0)
    assert last(of.take(11, spo2=None)) == {HR: 80.0, SPO2: 97.0, TEMPERATURE: 37.0}
    assert of.memory.observed_at == ms(10)


def test_a_message_without_a_usable_value_does_not_move_the_instant_that_is_known() -> None:
    of = Remembering()
    of.take(10, heart_rate=80.0)
    assert of.take(3 * 3600, received=11, heart_rate=None, fault="clock_ahead").observed_at == ms(10)
    assert of.take(12, consciousness="V").observed_at == ms(12)


@pytest.mark.parametrize("order", [("oxygen_flow", "fio2"), ("fio2", "oxygen_flow")])
def test_of_two_at_one_instant_oxygen_counts_before_air_and_a_newer_one_before_both(order: tuple[str, str]) -> None:
    of = Remembering()
    value = {"oxygen_flow": 2.0, "fio2": 21.0}
    for name in order:
        of.take(0, **{name: value[name]})
    assert inputs(of.memory) == {"on_oxygen": True}
    assert inputs(of.take(1, oxygen_flow=0.0)) == {"on_oxygen": False}


def test_a_code_that_is_none_of_the_score_leaves_the_last_one() -> None:
    of = Remembering()
    of.take(0, consciousness="V")
    assert inputs(of.take(1, consciousness="X")) == {"consciousness": "V"}


def test_what_was_entered_in_error_is_forgotten_and_what_is_newer_is_not() -> None:
    of = Remembering()
    of.take(0, heart_rate=130.0, spo2=80.0)
    of.take(1, spo2=97.0)
    memory = of.forget(0, heart_rate=130.0, spo2=80.0, status="entered-in-error")
    assert (last(memory), inputs(memory)) == ({SPO2: 97.0}, {"spo2": 97.0})


def test_a_trend_is_told_from_the_oldest_part_of_ten_minutes() -> None:
    of = Remembering()
    for minute in range(20):
        of.take(minute * 60, heart_rate=60.0 + minute)
    assert of.memory.trend(HR) == (69.0, 600)
    assert of.memory.trend(SPO2) is None


def test_one_part_of_a_trail_is_no_change_and_two_are() -> None:
    of = Remembering()
    assert of.memory.change(SBP, 1_800_000, rise=False) is None
    of.take(0, systolic_bp=150.0)
    assert of.take(1, systolic_bp=140.0).change(SBP, 1_800_000, rise=False) is None
    assert of.take(60, systolic_bp=100.0).change(SBP, 1_800_000, rise=False) == (45.0, 145.0)
    assert of.memory.change(SBP, 1_800_000, rise=True) == (-45.0, 145.0)


def size(memory: Memory) -> int:
    return len(orjson.dumps(memory.record(), default=list))


def test_a_memory_stays_small_however_much_and_however_long_comes() -> None:
    of = Remembering()
    signals = {"heart_rate": 80.0, "spo2": 97.0, "systolic_bp": 120.0, "temperature": 37.0, "respiratory_rate": 16.0}
    sizes = []
    for tenth in range(60_000):
        of.take(tenth / 10, **{**signals, "heart_rate": 80.0 + tenth % 7})
        if tenth % 20_000 == 19_999:
            sizes.append(size(of.memory))
    assert max(sizes) < 3000
    for day in range(1, 400):
        of.take(day * 86_400, **signals)
    assert size(of.memory) < max(sizes)


def test_a_memory_is_the_same_after_a_round_through_its_record() -> None:
    of = Remembering()
    for at in range(200):
        values = {"heart_rate": 80.0 + at % 3, "systolic_bp": 120.1, "oxygen_flow": 2.0, "consciousness": "A"}
        of.take(at, **values)
    record = TypeAdapter(MemoryRecord).validate_json(orjson.dumps(of.memory.record(), default=list), strict=True)
    again = restored(record)
    assert again.record() == of.memory.record()
    assert again.silent_since(None, 60_000) == of.memory.silent_since(None, 60_000) is not None
    assert again.silent_since(None, 2_000) is None


def test_the_packs_that_come_with_wardhouse_need_no_long_trail() -> None:
    for name in ("adult", "child"):
        for plan in needs(load(name).rules).values():
            assert plan.width == 0 or plan.length // plan.width <= 30
