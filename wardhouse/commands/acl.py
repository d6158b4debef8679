"""``ward acl``: who may read and write which topic, on brokers that ask."""

from typing import Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir


def acl(
    path: DataDirOption = DEFAULT_DATA_DIR,
    user: Annotated[
        str, typer.Option(help="User of a component; {component} stands for its name.")
    ] = "ward-{component}",
    apply: Annotated[bool, typer.Option("--apply", help="Give what is missing.")] = False,
) -> None:
    """Show what each component's user of Kafka needs and has not; exit code 2 where something is missing.

    Nothing is taken away: what somebody may beyond it is for the site to say.
    """
    from wardhouse import acl as lists
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import Failure, failures

    settings = Settings()
    with failures():
        if "{component}" not in user:
            raise Failure(f"--user {user} is one user for all: put {{component}} where its name is to stand")
        bootstrap = bootstrap_servers(settings, data_dir(path))
        wanted = lists.wanted(settings.topics(), user)
        missing = lists.missing(bootstrap, wanted)
        if apply and missing:
            lists.allow(bootstrap, missing)
        for right in missing:
            typer.echo(f"{'done' if apply else 'missing'}: {right}")
    if missing and not apply:
        raise typer.Exit(2)
    typer.echo(f"all {len(wanted)} permissions are there")
