from math import log

import pytest

from lakehouse.stability import STABLE, counts, cuts, index, quantile


def index_of(before: dict[float, int], now: dict[float, int]) -> float:
    edges = cuts(before)
    return index(counts(before, edges), counts(now, edges))


def test_the_same_distribution_has_no_index_and_another_the_sum_over_its_fifths() -> None:
    reference = {float(value): 10 for value in range(10)}  # fifths end at 1, 3, 5, 7
    recent = {0.0: 40, 2.0: 20, 4.0: 20, 6.0: 10, 8.0: 10}

    assert index_of(reference, dict.fromkeys(reference, 70)) == pytest.approx(0)
    assert index_of(reference, recent) == pytest.approx(0.2 * log(2) - 0.1 * log(0.5) - 0.1 * log(0.5))


def test_a_signal_of_one_value_that_takes_another_has_drifted() -> None:
    assert index_of({15.0: 1_000}, {15.0: 990, 14.0: 10}) < STABLE
    assert index_of({15.0: 1_000}, {14.0: 1_000}) > STABLE


@pytest.mark.parametrize(("share", "value"), [(0.1, 1.0), (0.25, 1.0), (0.26, 2.0), (0.5, 2.0), (1.0, 3.0)])
def test_a_quantile_is_the_smallest_value_that_reaches_the_share(share: float, value: float) -> None:
    assert quantile({3.0: 2, 1.0: 1, 2.0: 1}, share) == value
