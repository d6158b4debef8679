"""Who is known, and the stays of one patient: the live cache, gold and silver."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from alerting.lifecycle import OPEN
from gateway.live import LatestVitals, Patient, instant
from lakehouse import reader
from lakehouse.datadir import DataDir

LONGEST = timedelta(days=31)
"""How far back patients are looked for: every minute since then is read."""

_KNOWN = """
WITH heard AS (
    SELECT patient_id, max(minute) AS last_seen FROM gold.vital_sign_minute WHERE minute >= $since GROUP BY patient_id
), alerts AS (
    SELECT patient_id, count(*) FILTER (list_contains($open, state)) AS open_alerts,
        arg_max(location_unit, changed_at) AS unit, arg_max(location_bed, changed_at) AS bed
    FROM gold.alert GROUP BY patient_id
)
SELECT patient_id, last_seen, unit, bed, coalesce(open_alerts, 0) AS open_alerts
FROM heard FULL JOIN alerts USING (patient_id)
WHERE last_seen IS NOT NULL OR open_alerts > 0
"""

# The newest version counts: the order of versions of an observation.
_ENCOUNTERS = """
SELECT encounter_id, part_of, status, class, type, location, started_at, ended_at, admit_source,
    discharge_disposition, died, source, recorded_at
FROM (
    SELECT * FROM silver.encounter WHERE patient_id = $patient_id
    QUALIFY row_number() OVER (
        PARTITION BY encounter_id ORDER BY recorded_at DESC, topic DESC, "partition" DESC, "offset" DESC, version DESC
    ) = 1
)
WHERE status <> 'entered-in-error'
ORDER BY started_at DESC NULLS LAST, encounter_id
"""


def known(
    data: DataDir, cache: LatestVitals, unit: str | None, since: datetime, among: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Patients of whom a value was observed since, or with an open alert, by id: place, last value, open alerts.

    The place is where a monitor last said, else that of the newest alert. ``among`` are the patients who may be told
    of; None: all. Raises TableMissingError.
    """
    params = {"since": since.astimezone(UTC), "open": sorted(OPEN)}
    rows = reader.query(data, _KNOWN, params, {"minute": (params["since"], None)}).to_pylist()
    stored = {row["patient_id"]: row for row in rows}
    live = {patient.patient_id: patient for patient in cache.patients()}
    names = stored.keys() | live.keys()
    names = names if among is None else names & set(among)
    everybody = (_described(name, stored.get(name), live.get(name)) for name in sorted(names))
    return [patient for patient in everybody if unit in (None, patient["location"]["unit"])]


def _described(name: str, stored: Mapping[str, Any] | None, live: Patient | None) -> dict[str, Any]:
    row = stored or {}
    seen = [instant(live.observed_at)] if live else []
    if row.get("last_seen"):
        seen.append(instant(int(row["last_seen"].timestamp() * 1000)))
    return {
        "patient_id": name,
        "location": {
            "unit": (live.unit if live else None) or row.get("unit"),
            "bed": (live.bed if live else None) or row.get("bed"),
        },
        "last_seen": max(seen, default=None),
        "open_alerts": row.get("open_alerts", 0),
    }


def encounters(data: DataDir, patient_id: str) -> list[dict[str, Any]]:
    """The newest version of each stay, the latest first; without those entered in error. Raises TableMissingError."""
    found: list[dict[str, Any]] = reader.query(
        data, _ENCOUNTERS, {"patient_id": patient_id}, {"patient_id": (patient_id, patient_id)}
    ).to_pylist()
    return found
