from pathlib import Path

import pytest

from lakehouse.ecg.heartbeat_csv import PTB, Heartbeat, HeartbeatFileError, heartbeats
from tests.fixtures.ecg import heartbeat_line

SHAPE = [1.0, 0.5, 0.0, 0.25]


def read(folder: Path, *lines: str, **options: object) -> list[Heartbeat]:
    file = folder / "mitbih_test.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list(heartbeats(file, **options))


def test_a_line_is_a_beat_without_the_zeros_behind_it(tmp_path: Path) -> None:
    told = read(
        tmp_path,
        heartbeat_line(SHAPE, "0.000000000000000000e+00"),
        heartbeat_line(SHAPE * 2, 4.0),
        heartbeat_line([], 1),
    )

    assert [(one.label, one.samples.tolist()) for one in told] == [("N", SHAPE), ("Q", SHAPE * 2), ("S", [])]


def test_the_other_file_has_labels_of_patients(tmp_path: Path) -> None:
    assert [one.label for one in read(tmp_path, heartbeat_line(SHAPE, 1.0), labels=PTB)] == ["abnormal"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (heartbeat_line(SHAPE, 0, columns=186), "2: 187 columns"),
        (heartbeat_line(SHAPE, 5), "label 5 is none of 0 to 4"),
        (heartbeat_line(SHAPE, 0.5), "label 0.5"),
        (heartbeat_line(SHAPE, "nan"), "label nan"),
        (heartbeat_line(SHAPE, "N"), "2: could not convert"),
        (heartbeat_line([1.5], 0), "from 0 to 1"),
        (heartbeat_line([float("nan")], 0), "from 0 to 1"),
        ("", "1 columns"),
    ],
)
def test_what_is_no_beat_is_refused_with_its_line(tmp_path: Path, wrong: str, named: str) -> None:
    with pytest.raises(HeartbeatFileError, match=rf"mitbih_test\.csv:.*{named}"):
        read(tmp_path, heartbeat_line(SHAPE, 0), wrong)


def test_what_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    for unreadable in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(HeartbeatFileError, match="cannot be read"):
            list(heartbeats(unreadable))
    with pytest.raises(HeartbeatFileError, match="cannot be read"):
        read(tmp_path, "é")
