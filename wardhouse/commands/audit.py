"""``ward audit``: who read or ordered what of whom."""

from typing import Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, data_dir

_FOUND = """
SELECT * FROM gold.audit_event
WHERE ($patient IS NULL OR patient_id = $patient) AND ($actor IS NULL OR actor = $actor)
    AND ($since IS NULL OR asked_at >= $since)
ORDER BY asked_at, event_id
"""


def audit(
    patient: Annotated[str | None, typer.Option(help="About this patient, system/value; lists are about none.")] = None,
    actor: Annotated[str | None, typer.Option(help="By this key or user.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Of so long ago at most (8h, 30d), or since an instant (2026-01-31T12:00:00Z).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show who asked for what of whom and what became of it, from gold.audit_event: up to two minutes old."""
    from datetime import UTC, datetime

    import orjson

    from alerting.message_text import clean
    from lakehouse.reader import TableMissingError, query
    from wardhouse.durations import back
    from wardhouse.errors import failures

    start = None if since is None else back(since, datetime.now(UTC))
    with failures(TableMissingError):
        found = query(data_dir(data), _FOUND, {"patient": patient, "actor": actor, "since": start}).to_pylist()
    for row in found:
        about = row["patient_id"] or (f"unit {row['location_unit']}" if row["location_unit"] else "-")
        who = f"{row['actor_kind']} {row['actor']}"
        line = (
            f"{row['asked_at']:%Y-%m-%d %H:%M:%SZ}  {row['outcome']:<7}  {clean(who):<24}  {clean(about):<20}"
            f"  {row['application']}: {row['action']}  {clean(row['detail'] or '')}"
        )
        typer.echo(orjson.dumps(row, option=orjson.OPT_UTC_Z) if as_json else line.rstrip())
    if not found:
        typer.echo("no audit records", err=True)
