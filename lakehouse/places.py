"""Where patients are by what the hospital's systems say of their stays."""

from collections.abc import Mapping

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError

# HL7 v2 gives unit, room and bed as one text.
_STAYS = """
SELECT patient_id, arg_max(split_part(location, ', ', 1), started_at) AS unit
FROM (
    SELECT patient_id, status, location, started_at FROM silver.encounter
    QUALIFY row_number() OVER (
        PARTITION BY encounter_id ORDER BY recorded_at DESC, topic DESC, "partition" DESC, "offset" DESC, version DESC
    ) = 1
)
WHERE status = 'in-progress' AND location IS NOT NULL
GROUP BY patient_id
"""


def under_way(data: DataDir) -> Mapping[str, str]:
    """The care unit of each patient whose stay is under way and has a place."""
    try:
        return {row["patient_id"]: row["unit"] for row in reader.query(data, _STAYS).to_pylist()}
    except TableMissingError:
        return {}
