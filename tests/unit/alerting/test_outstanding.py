from alerting.outstanding import Outstanding


def test_an_offset_is_committed_when_everything_before_it_is_settled() -> None:
    records: Outstanding[str] = Outstanding()
    records.add(0, 10, ["a", "b"])
    records.add(0, 12, ["c"])
    records.add(1, 5, [])
    assert records.committable() == {0: 10, 1: 6}
    records.settle("c")
    records.settle("a")
    assert (records.committable(), records.ahead(0)) == ({0: 10, 1: 6}, 2)
    records.settle("b")
    assert (records.committable(), records.ahead(0)) == ({0: 13, 1: 6}, 0)


def test_where_a_partition_begins_can_be_committed_before_anything_was_read() -> None:
    records: Outstanding[str] = Outstanding()
    records.begin(0, 7)
    assert records.committable() == {0: 7}
    records.add(0, 9, ["a"])
    assert records.committable() == {0: 9}


def test_two_records_that_wait_for_one_key_are_both_done_when_it_is() -> None:
    records: Outstanding[str] = Outstanding()
    records.add(0, 0, ["a"])
    records.add(0, 1, ["a"])
    assert records.waits_for("a")
    records.settle("a")
    assert not records.waits_for("a")
    assert records.committable() == {0: 2}


def test_what_is_settled_twice_or_never_came_changes_nothing() -> None:
    records: Outstanding[str] = Outstanding()
    records.settle("a")
    records.add(0, 0, ["a", "a"])
    records.settle("a")
    records.settle("a")
    assert records.committable() == {0: 1}


def test_after_a_new_assignment_nothing_is_known() -> None:
    records: Outstanding[str] = Outstanding()
    records.add(0, 0, ["a"])
    records.clear()
    assert (records.committable(), records.ahead(0), records.waits_for("a")) == ({}, 0, False)
