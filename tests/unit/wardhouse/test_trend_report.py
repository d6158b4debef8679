"""``ward report``: which files it writes, whom it sends them to, what it refuses."""

import json
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler
from typer.testing import CliRunner, Result

from lakehouse.datadir import DataDir
from lakehouse.tables import OBSERVATION, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.trends import at, minutes, told
from wardhouse.broker import free_port
from wardhouse.cli import app

WEEK = ("--week", "2026-W10")


@pytest.fixture
def filled(data: DataDir) -> DataDir:
    append(data, VITAL_SIGN_MINUTE, *minutes("a", at(hour=8), 70.0), *minutes("b", at(hour=8), 80.0))
    append(data, OBSERVATION, told("a", "ICU", at(hour=8)), told("b", "MED", at(hour=8)))
    return data


class Mails(MailHandler):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.got.append(message)


@pytest.fixture
def mails() -> Iterator[tuple[Mails, int]]:
    """What an SMTP server got, and its port."""
    handler, port = Mails(), free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    yield handler, port
    controller.stop()


def ward(data: DataDir, *arguments: str, **environment: str | None) -> Result:
    outside = {"WARD_CHANNELS": None, "COLUMNS": "200", **environment}
    return CliRunner(env=outside).invoke(app, ["report", *arguments, "--data-dir", str(data.root)])


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_every_unit_gets_a_pdf_and_a_csv_and_a_second_run_leaves_the_same_figures(
    filled: DataDir, tmp_path: Path
) -> None:
    first = ward(filled, "trend", "--all", *WEEK, "--out", str(tmp_path / "out"))
    csv = (tmp_path / "out" / "trend-ICU-2026-W10.csv").read_bytes()
    second = ward(filled, "trend", "--unit", "ICU", *WEEK, "--out", str(tmp_path / "out"))

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert names(tmp_path / "out") == [
        f"trend-{unit}-2026-W10.{kind}" for unit in ("ICU", "MED") for kind in ("csv", "pdf")
    ]
    assert (tmp_path / "out" / "trend-ICU-2026-W10.csv").read_bytes() == csv
    assert (tmp_path / "out" / "trend-ICU-2026-W10.pdf").read_bytes().startswith(b"%PDF-")
    assert [line.split(":")[0] for line in first.stdout.splitlines()] == ["ICU, 2026-W10", "MED, 2026-W10"]


def test_a_week_without_data_is_a_report_that_says_so_in_the_folder_of_the_data_dir(filled: DataDir) -> None:
    ran = ward(filled, "trend", "--unit", "ICU", "--from", "2025-01-01", "--to", "2025-01-03")

    assert ran.exit_code == 0, ran.output
    assert names(filled.reports) == [f"trend-ICU-2025-01-01_2025-01-03.{kind}" for kind in ("csv", "pdf")]
    assert "nothing is stored of it, and that is what it says" in ran.stdout


def test_a_unit_that_nobody_knows_is_refused_with_those_that_are_known(filled: DataDir) -> None:
    ran = ward(filled, "trend", "--unit", "ICO", *WEEK)

    assert ran.exit_code == 1
    assert ran.stderr.splitlines()[-1] == "ward: no unit ICO is known; known: ICU, MED"
    assert not filled.reports.exists() or names(filled.reports) == []


def test_units_are_listed_one_a_line_or_as_json(filled: DataDir) -> None:
    assert ward(filled, "units", *WEEK).stdout.splitlines() == ["ICU", "MED"]
    assert json.loads(ward(filled, "units", "--json", *WEEK).stdout) == ["ICU", "MED"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("trend", *WEEK), "give --unit UNIT or --all"),
        (("trend", "--unit", "ICU", "--all"), "give --unit UNIT or --all"),
        (("trend", "--all", "--from", "2026-03-02"), "give --week, or --from and --to"),
        (("trend", "--all", "--from", "2026-03-02", "--to", "tomorrow"), "give a day such as 2026-11-16"),
        (("trend", "--all", "--zone", "Mars/Base"), "give a time zone such as Europe/London"),
        (("trend", "--all", "--week", "10"), "give a week as ISO 8601 writes it, such as 2026-W47"),
        (("trend", "--all", *WEEK, "--mail"), "no channels file: give --channels FILE or set WARD_CHANNELS"),
        (("trend", "--all", *WEEK, "--rules", "none"), "no such rule pack"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_to_give(
    filled: DataDir, arguments: tuple[str, ...], said: str
) -> None:
    ran = ward(filled, *arguments)

    assert ran.exit_code != 0
    assert said in " ".join(ran.stderr.split())


def test_each_unit_is_mailed_its_own_report_with_both_files(
    filled: DataDir, tmp_path: Path, mails: tuple[Mails, int]
) -> None:
    got, port = mails
    url = f"mailto://hospital.test:{port}?smtp=127.0.0.1&from=ward@hospital.test&to={{}}@hospital.test"
    channels = tmp_path / "channels.yaml"
    reports = {"urls": [url.format("managers")], "units": {"ICU": [url.format("icu")]}}
    channels.write_text(json.dumps({"channels": {"reports": reports}}))

    ran = ward(filled, "trend", "--all", *WEEK, "--mail", "--channels", str(channels))

    assert ran.exit_code == 0, ran.output
    assert [(mail["to"], mail["subject"]) for mail in got.got] == [
        ("icu@hospital.test", "ICU: trends 2026-W10"),
        ("managers@hospital.test", "MED: trends 2026-W10"),
    ]
    for mail, unit in zip(got.got, ("ICU", "MED"), strict=True):
        files = {part.get_filename(): part.get_payload(decode=True) for part in mail.walk() if part.get_filename()}
        assert files == {name: (filled.reports / name).read_bytes() for name in names(filled.reports) if unit in name}


def test_where_no_channel_is_set_a_report_that_would_be_sent_is_written_and_that_is_said(
    filled: DataDir, tmp_path: Path
) -> None:
    channels = tmp_path / "channels.yaml"
    channels.write_text(json.dumps({"channels": {"nurse": {"urls": ["json://127.0.0.1:1"]}}}))

    ran = ward(filled, "trend", "--unit", "ICU", *WEEK, "--mail-if-set", WARD_CHANNELS=str(channels))

    assert ran.exit_code == 0, ran.output
    assert "ward: not sent: no channel reports" in ran.stderr
    assert len(names(filled.reports)) == 2


def test_a_report_that_cannot_be_sent_is_a_failure_and_is_written_all_the_same(filled: DataDir, tmp_path: Path) -> None:
    channels = tmp_path / "channels.yaml"
    channels.write_text(json.dumps({"channels": {"reports": {"urls": ["json://127.0.0.1:1"]}}}))

    ran = ward(filled, "trend", "--unit", "ICU", *WEEK, "--mail", WARD_CHANNELS=str(channels))

    assert ran.exit_code == 1
    assert ran.stderr.splitlines()[-1].startswith("ward: ICU, reports, url 1: ")
    assert len(names(filled.reports)) == 2
