"""``ward keys``: who may use the gateway, and for what."""

from typing import Annotated

import typer

from lakehouse.caller import Scope
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, data_dir

app = typer.Typer(help="API keys of the gateway: create, list, revoke.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is: a system or a person; the audit has it.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; may be repeated.")],
    unit: Annotated[
        list[str] | None, typer.Option(help="Only patients of this care unit; may be repeated. Left out: all.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="After so long (8h, 90d), or at an instant (2027-01-31T12:00:00Z).")
    ] = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Make a key and show it, this once. From the first key on every caller of the gateway needs one."""
    from datetime import UTC, datetime

    from gateway import keys
    from wardhouse.durations import ahead
    from wardhouse.errors import failures

    now = datetime.now(UTC)
    with failures(keys.KeyRefusedError, keys.KeysUnreadableError):
        ends = None if expires is None else ahead(expires, now)
        path = keys.file_of(data_dir(data))
        made, token = keys.create(path, name, frozenset(scope), now, frozenset(unit) if unit else None, ends)
    typer.echo(token)
    typer.echo(f"key {made.key_id} of {name}: it is shown this once, and kept as a hash", err=True)


@app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show every key there ever was, without what it opens with."""
    from datetime import UTC, datetime

    import orjson

    from gateway import keys
    from wardhouse.errors import failures

    now = datetime.now(UTC)
    with failures(keys.KeysUnreadableError):
        found = keys.read(keys.file_of(data_dir(data)))
    for key in found:
        shown = {
            "key_id": key.key_id,
            "name": key.name,
            "state": key.state(now),
            "scopes": sorted(key.scopes),
            "units": None if key.units is None else sorted(key.units),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "revoked_at": key.revoked_at,
        }
        units = "all units" if key.units is None else ", ".join(sorted(key.units))
        ends = f"until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else ""
        line = f"{key.key_id}  {key.state(now):<8}  {key.name:<20}  {' '.join(sorted(key.scopes)):<20}  {units}  {ends}"
        typer.echo(orjson.dumps(shown) if as_json else line.rstrip())
    if not found:
        typer.echo("no keys: whoever reaches the gateway on this machine may use it", err=True)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name or id of the key.")], data: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """Make a key worthless: a running gateway refuses it from its next request on, and ends its live streams."""
    from datetime import UTC, datetime

    from gateway import keys
    from wardhouse.errors import failures

    with failures(keys.KeyRefusedError, keys.KeysUnreadableError):
        gone = keys.revoke(keys.file_of(data_dir(data)), name, datetime.now(UTC))
    typer.echo(f"key {gone.key_id} of {gone.name} is revoked")
