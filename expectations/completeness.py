"""Completeness: do the hours of patients have the minutes that their devices usually send.

A patient-hour is whole when each signal that the patient's device sends has at least LEAST_MINUTES_SHARE of the minutes
that it usually has in an hour, for this patient: the 75th percentile of the hours in which it came, so that hours with
gaps do not lower it. A device sends a signal when it came in at least half of the hours, so that what is charted every
four hours is not missed each hour. Hours count between the first and the last of a patient: those two are cut by coming
and going. An hour without any value in between counts, and is not whole.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from expectations.verdict import Verdict, no_verdict
from lakehouse.vocabulary import signals

SPAN = timedelta(days=1)
HOUR = timedelta(hours=1)

LEAST_MINUTES_SHARE = 0.75
"""45 minutes of 60, or three of four readings of a cuff: a change of leads takes minutes, not a quarter of an hour."""
LEAST_WHOLE = 0.9
"""The share of patient-hours that must be whole. Two of a day's 24 are lost to transport, imaging and showers (0.92); a
gateway that is down for three hours leaves 0.88."""
LEAST_HOURS = 100
"""Below so many patient-hours a share of 0.9 is only known to within six hundredths."""


def query(now: datetime) -> str:
    """Spark SQL over ``{rows}`` of gold.vital_sign_minute, whose answer :func:`judged` takes.

    Rows (code, hours, short): a patient's hours in which the signal is expected, and those in which it fell short; with
    NULL for the code, all patient-hours and those that are not whole.
    """
    stop = now.replace(minute=0, second=0, microsecond=0)
    return f"""
        WITH hours AS (
          SELECT patient_id, code, date_trunc('HOUR', minute) AS hour, count(*) AS minutes
          FROM {{rows}}
          WHERE minute >= TIMESTAMP '{(stop - SPAN).isoformat()}' AND minute < TIMESTAMP '{stop.isoformat()}'
          GROUP BY patient_id, code, date_trunc('HOUR', minute)
        ), stay AS (
          SELECT patient_id, min(hour) + INTERVAL 1 HOUR AS first, max(hour) - INTERVAL 1 HOUR AS last
          FROM hours GROUP BY patient_id HAVING max(hour) - min(hour) >= INTERVAL 2 HOURS
        ), expected AS (
          SELECT patient_id, code, percentile(minutes, 0.75) AS usual,
            any_value(first) AS first, any_value(last) AS last
          FROM hours JOIN stay USING (patient_id)
          WHERE hour BETWEEN first AND last
          GROUP BY patient_id, code
          HAVING 2 * count(*) >= (unix_seconds(any_value(last)) - unix_seconds(any_value(first))) / 3600 + 1
        ), wanted AS (
          SELECT patient_id, code, usual, explode(sequence(first, last, INTERVAL 1 HOUR)) AS hour FROM expected
        ), found AS (
          SELECT code, patient_id, hour, coalesce(minutes, 0) < {LEAST_MINUTES_SHARE} * usual AS short
          FROM wanted LEFT JOIN hours USING (patient_id, code, hour)
        )
        SELECT code, count(*) AS hours, count_if(short) AS short FROM found GROUP BY code
        UNION ALL
        SELECT NULL, count(*), count_if(short)
        FROM (SELECT bool_or(short) AS short FROM found GROUP BY patient_id, hour)
    """  # noqa: S608 - instants and numbers of ours


def judged(answer: Iterable[tuple[Any, ...]]) -> Verdict:
    """Whether enough patient-hours are whole."""
    rows = {code: (hours, short) for code, hours, short in answer}
    hours, short = rows.pop(None, (0, 0))
    if hours < LEAST_HOURS:
        return no_verdict(f"{hours:,} patient-hours in the last day, {LEAST_HOURS} are needed")
    named = {signal.code: signal.name for signal in signals()}
    worst = sorted(((lacking, code) for code, (_, lacking) in rows.items() if lacking), reverse=True)
    where = "".join(f", {named.get(code, code)} short in {lacking:,}" for lacking, code in worst)
    whole = hours - short
    return Verdict(
        whole >= LEAST_WHOLE * hours,
        f"{whole:,} of {hours:,} patient-hours are whole ({whole / hours:.1%}, limit {LEAST_WHOLE:.0%}){where}",
        unexpected=short,
    )
