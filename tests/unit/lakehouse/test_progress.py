from lakehouse.progress import append, last, read


def test_lines_are_read_as_they_were_appended_and_the_last_is_the_newest(tmp_path):
    path = tmp_path / "progress" / "observation.jsonl"
    for number in range(3):
        append(path, {"at": "2026-03-01T12:00:00+00:00", "rows": number, "lag": None})
    assert [line["rows"] for line in read(path)] == [0, 1, 2]
    assert last(path) == {"at": "2026-03-01T12:00:00+00:00", "rows": 2, "lag": None}


def test_there_is_nothing_to_read_before_the_first_line(tmp_path):
    path = tmp_path / "observation.jsonl"
    assert (list(read(path)), last(path)) == ([], None)
    path.touch()
    assert (list(read(path)), last(path)) == ([], None)


def test_a_line_that_is_cut_off_is_not_read(tmp_path):
    path = tmp_path / "observation.jsonl"
    append(path, {"rows": 1})
    with path.open("ab") as file:
        file.write(b'{"rows": 2')
    assert (list(read(path)), last(path)) == ([{"rows": 1}], {"rows": 1})


def test_what_is_appended_after_a_line_that_was_cut_off_is_read(tmp_path):
    path = tmp_path / "observation.jsonl"
    append(path, {"rows": 1})
    with path.open("ab") as file:
        file.write(b'{"rows": 2')
    append(path, {"rows": 3})
    append(path, {"rows": 4})
    assert [line["rows"] for line in read(path)][-1] == 4
    assert last(path) == {"rows": 4}


def test_the_newest_line_is_found_at_the_end_of_a_long_file(tmp_path):
    path = tmp_path / "observation.jsonl"
    for number in range(200):
        append(path, {"rows": number, "text": "x" * 1000})
    assert last(path)["rows"] == 199
