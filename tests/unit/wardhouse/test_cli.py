import errno

import pytest

from lakehouse.checkpoint import CheckpointError
from wardhouse import cli


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "ward: /data/x: the disk is full: free some space"),
        (errno.EACCES, "ward: /data/x: no permission: give --data-dir a place"),
    ],
)
def test_a_disk_that_takes_nothing_is_one_line_whatever_the_command_was_doing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, said: str
) -> None:
    def failing() -> None:
        raise OSError(code, "as the kernel says it", "/data/x")

    monkeypatch.setattr(cli, "app", failing)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_a_damaged_checkpoint_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> None:
        raise CheckpointError("offsets/7 is damaged")

    monkeypatch.setattr(cli, "app", failing)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "ward: offsets/7 is damaged\n"


def test_another_error_of_the_system_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise FileNotFoundError(errno.ENOENT, "not there", "/data/x")

    monkeypatch.setattr(cli, "app", failing)
    with pytest.raises(FileNotFoundError):
        cli.main()
