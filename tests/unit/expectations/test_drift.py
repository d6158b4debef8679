import pytest

from expectations import completeness, drift
from expectations.drift import Window
from expectations.verdict import Verdict

HEART_RATE = ("8867-4", "/min")
SPO2 = ("59408-5", "%")


def windows(before: Window, recent: Window, signal=HEART_RATE) -> drift.Tally:
    return {(signal, False): before, (signal, True): recent}


def spread(first: int, minutes: int = 1_000, patients: int = 100) -> Window:
    """Ten values from ``first`` on, equally often."""
    return Window(patients, minutes, {float(first + step): minutes // 10 for step in range(10)})


def test_the_answer_of_the_query_becomes_windows():
    answer = [("8867-4", "/min", False, 80.0, 3, None), ("8867-4", "/min", False, None, 3, 2)]

    assert drift.tally(answer) == {(HEART_RATE, False): Window(2, 3, {80.0: 3})}


def test_values_that_moved_by_their_spread_have_drifted_and_the_verdict_says_how():
    assert drift.values(windows(spread(80), spread(85)), *HEART_RATE) == Verdict(
        holds=False,
        said="stability index 3.09, limit 0.62; 10th percentile 80 to 85, median 84 to 89, 90th 88 to 93 /min;"
        " 100 patients, 100 before",
    )
    assert drift.values(windows(spread(80), spread(81)), *HEART_RATE).holds


def test_the_limit_is_wider_where_patients_are_few():
    shifted = {80.0: 10, 81.0: 10, **{float(value): 60 for value in range(82, 90)}, 90.0: 250, 91.0: 250}
    many = Window(2_000, 1_000, shifted)
    few = Window(20, 1_000, shifted)

    assert not drift.values(windows(spread(80, patients=2_000), many), *HEART_RATE).holds
    assert drift.values(windows(spread(80, patients=20), few), *HEART_RATE).holds


@pytest.mark.parametrize(
    ("before", "recent", "said"),
    [
        (
            spread(80, patients=19),
            spread(120),
            "no verdict: 1,000 minutes of 19 patients in the week before; it takes 200 of 20",
        ),
        (
            spread(80),
            spread(120, minutes=190),
            "no verdict: 190 minutes of 100 patients in the last day; it takes 200 of 20",
        ),
        (Window(), Window(), "no verdict: 0 minutes of 0 patients in the week before; it takes 200 of 20"),
    ],
)
def test_too_few_rows_are_no_verdict_and_it_says_so(before, recent, said):
    verdict = drift.values(windows(before, recent), *HEART_RATE)

    assert verdict == Verdict(holds=True, said=said)


@pytest.mark.parametrize(
    ("minutes", "holds"), [(1_000, True), (510, True), (490, False), (0, False), (1_950, True), (3_100, False)]
)
def test_a_share_that_halves_or_doubles_is_a_fault_and_so_is_a_signal_that_vanishes(minutes, holds):
    # Of 5,000 minutes a fifth; the other signal keeps what makes the whole 5,000.
    both = {
        **windows(spread(80), Window(100 if minutes else 0, minutes, {80.0: minutes})),
        **windows(spread(90, minutes=4_000), spread(90, minutes=5_000 - minutes), SPO2),
    }

    assert drift.share(both, *HEART_RATE).holds is holds


def test_a_share_of_an_intake_that_stands_still_is_no_verdict():
    both = {**windows(spread(80), Window()), **windows(spread(90), spread(90, minutes=100), SPO2)}

    assert drift.share(both, *HEART_RATE) == Verdict(True, "no verdict: 100 minutes of any signal in the last day")


def test_patient_hours_are_judged_by_their_share_and_the_worst_signal_is_named_first():
    rows = [("8867-4", 200, 5), ("59408-5", 150, 12), ("9279-1", 200, 0), (None, 200, 20)]

    assert completeness.judged(rows) == Verdict(
        holds=True,
        said="180 of 200 patient-hours are whole (90.0%, limit 90%), spo2 short in 12, heart_rate short in 5",
        unexpected=20,
    )
    assert not completeness.judged([(None, 200, 21)]).holds
    assert completeness.judged([(None, 99, 99)]) == Verdict(
        True, "no verdict: 99 patient-hours in the last day, 100 are needed"
    )
    assert completeness.judged([]).said == "no verdict: 0 patient-hours in the last day, 100 are needed"
