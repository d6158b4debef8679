"""Readers of what comes from outside, given good and damaged inputs; ``python -m bench fuzz`` gives them many more."""

import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.damage import damaged
from tests.fixtures.readers import Reader, readers

CHANCE = st.randoms(use_true_random=False)
QUICK = [reader for reader in readers() if not reader.slow]
FILES = [reader for reader in readers() if reader.slow]


def is_read_or_refused(reader: Reader, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(*reader.errors):
        reader.read(content, Path(folder))


@pytest.mark.parametrize("reader", readers(), ids=lambda reader: reader.name)
def test_what_is_right_is_read(reader: Reader, tmp_path: Path) -> None:
    reader.read(reader.good, tmp_path)


# Patients and admissions are files too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(CHANCE, st.binary(max_size=100))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("reader", QUICK, ids=lambda reader: reader.name)
def test_whatever_a_reader_is_given_it_gives_its_value_or_its_named_error(
    reader: Reader, chance: Random, noise: bytes
) -> None:
    is_read_or_refused(reader, damaged(chance, reader.good))
    is_read_or_refused(reader, noise)


# Of a row that is no UTF-8 pyarrow cannot tell our handler: it refuses the file, and Python says so beside it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(CHANCE)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("reader", FILES, ids=lambda reader: reader.name)
def test_of_any_file_every_row_is_accounted_for(reader: Reader, chance: Random) -> None:
    is_read_or_refused(reader, damaged(chance, reader.good))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        # What fuzzing found.
        ("rule pack", b"name: " + b"[" * 3000),
        ("rule pack", b"title: 1970-01-01T00:00:00+99:99"),
        ("channels file", b"channels: " + b"{a: " * 500),
        ("evaluation", b'{"patient_id": {}}'),
        ("MIMIC-III csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xff\xff"),
        ("offsets of a checkpoint", b"v1\n{}\n[]"),
        ("HL7 v2", b"MSH|^^\\&|MON|ICU-7|WARD|HOSP|20260301130002+0100||ORU^R01^ORU_R01|M-1|P|2.6\rPID|1||a^b"),
        ("manifest of a snapshot", b"[" * 100_000),
        ("start of a checkpoint", b'{"sources": [{"vitals": {"0": null}}]}'),
    ],
)
def test_what_once_made_a_reader_fail_is_refused_by_name(name: str, content: bytes, tmp_path: Path) -> None:
    reader = next(reader for reader in readers() if reader.name == name)

    with pytest.raises(reader.errors):
        reader.read(content, tmp_path)
