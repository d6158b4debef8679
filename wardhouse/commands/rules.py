"""``ward rules``: rule packs."""

from typing import Annotated

import typer

app = typer.Typer(help="Rule packs: what raises an alert.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def check(
    packs: Annotated[
        list[str] | None, typer.Argument(help="Names or .yaml files; without any, all that come with ward.")
    ] = None,
) -> None:
    """Check rule packs; each error names file, rule and field."""
    from alerting.pack import PackError, load, names

    broken = False
    for name in packs or names():
        try:
            pack = load(name)
        except PackError as error:
            broken = True
            typer.echo(f"ward: {error}", err=True)
        else:
            units = f", own limits in {', '.join(pack.units)}" if pack.units else ""
            typer.echo(f"{pack.label}: {len(pack.rules)} rules{units}")
    if broken:
        raise typer.Exit(1)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A pack's name or .yaml file.")],
    new: Annotated[str, typer.Argument(help="Another one.")],
) -> None:
    """Show what changes from one pack to another; exit code 1 where something does."""
    from alerting.pack import PackError, load
    from alerting.pack_diff import differences
    from wardhouse.errors import failures

    with failures(PackError):
        lines = differences(load(old), load(new))
    for line in lines:
        typer.echo(line)
    if lines:
        raise typer.Exit(1)
    typer.echo("the same rules")
