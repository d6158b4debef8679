from datetime import UTC, datetime, timedelta

import orjson
from typer.testing import CliRunner

from lakehouse.datadir import DataDir
from lakehouse.models.anomaly import MINUTE, Kind
from lakehouse.stored_anomalies import series
from lakehouse.tables import VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.unit.lakehouse.models.test_anomaly import BEGIN, minutes, moved, shifted
from wardhouse.cli import app

HOUR = timedelta(hours=1)


def store(data: DataDir) -> None:
    """Two hundred minutes of which ten are far from usual; another patient is ill all the time."""
    rows = moved(minutes(), 150, 160, shifted(30))
    others = moved(minutes(), 40, 200, shifted(60))
    append(data, VITAL_SIGN_MINUTE, *({**row, "patient_id": "mrn/1"} for row in rows))
    append(data, VITAL_SIGN_MINUTE, *({**row, "patient_id": "mrn/2"} for row in others))


def test_what_is_usual_at_the_beginning_of_a_span_is_known_from_before_it(data: DataDir) -> None:
    store(data)
    (found,) = series(data, "mrn/1", BEGIN + 155 * MINUTE, BEGIN + 4 * HOUR)
    assert (found.kind, found.begin, found.end) == (Kind.UNUSUAL, BEGIN + 150 * MINUTE, BEGIN + 160 * MINUTE)
    assert series(data, "mrn/1", BEGIN + 160 * MINUTE, BEGIN + 4 * HOUR) == []
    assert series(data, "mrn/3", BEGIN, BEGIN + 4 * HOUR) == []


def test_the_command_tells_them_in_words_and_as_objects(data: DataDir) -> None:
    store(data)
    asked = ["anomalies", "mrn/1", "--until", "2026-03-01T04:00:00Z", "--since", "4h", "--data-dir", str(data.root)]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 0
    assert said.output.startswith("2026-03-01 02:30Z    10 min  Heart rate: unusual: 1")
    (told,) = map(orjson.loads, CliRunner().invoke(app, [*asked, "--json"]).output.splitlines())
    assert datetime.fromisoformat(told["end"]) == datetime(2026, 3, 1, 2, 40, tzinfo=UTC)
    assert (told["kind"], told["code"]) == ("unusual", "8867-4")


def test_without_findings_or_tables_it_says_so(data: DataDir) -> None:
    asked = ["anomalies", "mrn/1", "--until", "2026-03-01T04:00:00Z", "--data-dir", str(data.root)]
    missing = CliRunner().invoke(app, asked)
    assert missing.exit_code == 1
    assert missing.output.startswith("ward: ")
    store(data)
    calm = CliRunner().invoke(app, [*asked, "--since", "30m"])
    assert calm.output == "nothing unusual is stored of mrn/1 in this span\n"
