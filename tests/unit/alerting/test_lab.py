from collections.abc import Iterator

from alerting.bands import arms
from alerting.evaluation import Evaluation
from alerting.lab import Episode, Outcome, Trial, fewer, plain, summary, table, with_limits
from alerting.offline import evaluations
from alerting.pack import Pack, load
from lakehouse.message import Message

ADULT = load("adult")
HR = "8867-4"
T0 = 1_767_225_600_000


def message(patient: str, at_s: int, value: float) -> tuple[int, Message]:
    at = T0 + at_s * 1000
    return at, {
        "schema_version": 1,
        "message_id": f"{patient}-{at_s}",
        "patient_id": patient,
        "device_id": f"monitor-{patient}",
        "source": "simulator",
        "observed_at": f"2026-01-01T{at_s // 3600:02d}:{at_s // 60 % 60:02d}:{at_s % 60:02d}Z",
        "status": "final",
        "observations": [{"code": HR, "value": value, "unit": "/min"}],
    }


def hour(pack: Pack, patient: str, *fast: tuple[int, int]) -> Iterator[Evaluation]:
    """An hour of one value a second: about 80, and 130 within these spans of seconds."""
    values = (
        130.0 if any(start <= second < stop for start, stop in fast) else 80.0 + second % 2 for second in range(3600)
    )
    messages = (message(patient, second, value) for second, value in enumerate(values))
    return evaluations(messages, arms(pack), pack.label)


def tried(pack: Pack, *fast: tuple[int, int], episodes: tuple[Episode, ...] = (), answer_s: float = 60) -> Outcome:
    trial = Trial(pack, acknowledged_after_s=answer_s)
    trial.run(hour(pack, "p", *fast))
    return trial.end(episodes)


def episode(start: int, stop: int, rules: tuple[str, ...] = ("heart-rate-high",)) -> Episode:
    at = [T0 + second * 1000 for second in (start - 10, start, stop, stop + 10)]
    return Episode("p", "tachycardia", *at, rules)


def test_what_is_short_is_told_by_plain_thresholds_alone() -> None:
    spans = ((100, 105), (200, 208), (600, 900))
    quiet, loud = tried(ADULT, *spans), tried(plain(ADULT), *spans)
    assert (summary(loud).alerts, summary(loud).notifications) == (3, 3)
    assert summary(quiet).by_rule == {"heart-rate-high": 1}
    assert (summary(quiet).notifications, quiet.told) == (1, {"raised": 1})
    assert fewer(quiet, loud) == 1 - 1 / 3


def test_a_limit_or_a_delay_is_tried_without_touching_the_rest_of_the_pack() -> None:
    higher = with_limits(ADULT, "heart-rate-high", limit=135.0)
    assert [rule.id for rule in higher.rules] == [rule.id for rule in ADULT.rules]
    assert tried(higher, (600, 900)).alerts == {}
    at_once = with_limits(ADULT, "heart-rate-high", delay_s=0.0)
    assert tried(at_once, (100, 105)).alerts == {("heart-rate-high", "medium", "physiological"): 1}


def test_an_episode_is_found_by_the_rule_that_it_breaks_and_told_of_in_its_time() -> None:
    real, other = episode(600, 900), episode(600, 900, ("spo2-low",))
    found = tried(ADULT, (600, 900), (2000, 2100), episodes=(real,))
    assert (found.sought, found.found, found.told_of) == ({"tachycardia": 1},) * 3
    # Active after the delay of 30 s; the second alert belongs to no episode.
    assert (found.delays_ms, found.true, found.false) == ([30_000], 1, 1)
    assert tried(ADULT, (600, 900), episodes=(other,)).found == {}
    missed = tried(ADULT, episodes=(real,))
    assert (summary(missed).sensitivity, summary(missed).ppv) == (0.0, None)
    assert tried(ADULT, (600, 640), episodes=(episode(600, 640),)).sought == {}


def test_an_alert_that_sounds_already_when_an_episode_begins_finds_it_if_it_lasts_to_its_height() -> None:
    lasting = tried(ADULT, (500, 900), episodes=(episode(600, 900),))
    # It begins at 590 and has come to its height at 600.
    assert (lasting.found, lasting.delays_ms) == ({"tachycardia": 1}, [-10_000])
    # Resolved at 595, 60 s after the last breach.
    assert tried(ADULT, (400, 535), episodes=(episode(600, 900),)).found == {}


def test_what_nobody_acknowledges_is_told_to_the_next_and_what_somebody_does_is_not() -> None:
    assert summary(tried(ADULT, (600, 3600))).escalations == 0
    assert summary(tried(ADULT, (600, 3600), answer_s=1200)).escalations == 1


def test_time_in_alarm_ends_with_the_alert_or_with_the_history() -> None:
    # From 30 s after the breach to 60 s after its end; and to the last message.
    assert tried(ADULT, (600, 900)).in_alarm_ms == {"medium": (900 + 60 - 630) * 1000}
    assert tried(ADULT, (3000, 3600)).in_alarm_ms == {"medium": (3599 - 3030) * 1000}


def test_shares_of_patients_add_up_to_all_of_them() -> None:
    spans = {"a": (600, 900), "b": (700, 800), "c": (100, 103)}
    whole, shares = Trial(ADULT, acknowledged_after_s=60), []
    for name, span in spans.items():
        share = Trial(ADULT, acknowledged_after_s=60)
        share.run(hour(ADULT, name, span))
        shares.append(share.end())
        whole.run(hour(ADULT, name, span))
    total, *others = shares
    for other in others:
        total.add(other)
    assert summary(total) == summary(whole.end())
    assert summary(total).bed_days == round(3 * 3599 / 86_400, 3)


def test_the_table_has_a_column_for_each_pack_and_a_row_for_each_rule_that_any_of_them_raised() -> None:
    figures = [summary(tried(ADULT, (600, 900))), summary(tried(ADULT))]
    rows = {name: cells for name, *cells in table(figures)}
    assert rows["alerts"] == ["1", "0"]
    assert rows["  heart-rate-high"] == ["1", "0"]
    assert rows["sensitivity"] == ["-", "-"]
    assert rows["alerts per bed and day"] == ["24.01", "0"]


def test_between_values_that_are_hours_apart_time_passes_one_thing_after_another() -> None:
    hourly = [message("p", hour * 3600, value) for hour, value in enumerate((80.0, 130.0, 131.0, 81.0))]
    trial = Trial(ADULT, acknowledged_after_s=60)
    trial.run(evaluations(hourly, arms(ADULT), ADULT.label))
    done = trial.end()
    # Told when the delay is over, and acknowledged before the next step is due.
    assert (done.told, summary(done).escalations) == ({"raised": 1}, 0)
    assert done.in_alarm_ms == {"medium": (2 * 3600 - 30) * 1000}


def test_days_between_two_stays_are_neither_bed_days_nor_time_in_alarm() -> None:
    day = 86_400
    stays = [message("p", second, 130.0) for second in range(0, 60, 5)]
    later = [(at + 40 * day * 1000, {**one, "message_id": f"later-{n}"}) for n, (at, one) in enumerate(stays)]
    for _, one in later:
        one["observed_at"] = one["observed_at"].replace("2026-01-01", "2026-02-10")
    for _, one in (*stays, *later):
        # Of a source whose past is not now nobody says that it is silent.
        one["source"] = "mimic-iv"
    trial = Trial(ADULT, acknowledged_after_s=60)
    trial.run(evaluations([*stays, *later], arms(ADULT), ADULT.label))
    done = trial.end()
    assert done.bed_ms == 2 * 55_000
    # Abandoned a day after the last message of the first stay.
    assert done.in_alarm_ms == {"medium": (day + 55 - 30) * 1000 + 1 + 25_000}
