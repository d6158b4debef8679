"""One declaration, two engines: DuckDB derives from silver, as known now, the very bits that Spark puts into gold."""

from datetime import UTC, datetime
from random import Random

import deltalake

from lakehouse import delta
from lakehouse.known_at import as_known_at
from lakehouse.tables import OBSERVATION, VITAL_SIGN_MINUTE
from lakehouse.transforms.vital_sign_minute import vital_sign_minute
from tests.fixtures.delta import append
from tests.fixtures.observations import known, observation


def any_versions(seed: int) -> list[dict]:
    """Observations of two minutes, many at one instant, in up to three versions, some withdrawn, some too large."""
    random = Random(seed)
    return [
        observation(
            f"o{n}",
            random.randrange(0, 120, 10),
            random.choice((random.uniform(1, 299), round(random.uniform(30, 42), 1), 9.9e8)),
            patient_id=f"mrn/{n % 3}",
            version=bytes([v]) * 16,
            status=random.choice(("final", "corrected", "entered-in-error")),
            offset=random.randrange(3),
            recorded_at=known(random.randrange(3)),
        )
        for n in range(200)
        for v in range(random.randint(1, 3))
    ]


def test_minutes_as_known_now_are_bit_for_bit_those_of_gold(spark, data):
    append(data, OBSERVATION, *any_versions(seed=7))
    columns = [column.name for column in VITAL_SIGN_MINUTE.columns]
    gold = vital_sign_minute(delta.read(spark, data.table(OBSERVATION))).select(*columns)
    gold.write.format("delta").save(str(data.table(VITAL_SIGN_MINUTE)))

    derived = as_known_at(data, VITAL_SIGN_MINUTE, datetime(2027, 1, 1, tzinfo=UTC)).to_arrow_table()

    written = deltalake.DeltaTable(data.table(VITAL_SIGN_MINUTE)).to_pyarrow_table()
    by_key = [("patient_id", "ascending"), ("minute", "ascending")]
    assert derived.num_rows == 6
    assert derived.sort_by(by_key).to_pylist() == written.select(columns).sort_by(by_key).to_pylist()
