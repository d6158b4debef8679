"""``ward docs``: the pages and files that are made from the declarations."""

from pathlib import Path
from typing import Annotated

import typer


def generated() -> dict[Path, str]:
    """Every generated file of the project, by its path from the project's root."""
    from lakehouse import pages
    from lakehouse.pipeline import check
    from lakehouse.render_dbt import dbt_sources_yaml
    from lakehouse.tables import TABLES
    from lakehouse.topics import TOPICS
    from wardhouse.commands.dbt import FRESH, SOURCES

    return {
        Path("dbt_project/models/staging/sources.yml"): dbt_sources_yaml(SOURCES, FRESH),
        Path("docs/tables.md"): pages.tables_page(TABLES),
        Path("docs/lineage.md"): pages.lineage_page(check(), TOPICS),
    }


def docs(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 where a file is not up to date.")
    ] = False,
) -> None:
    """Write what is made from the declarations: docs/tables.md, docs/lineage.md and the sources of dbt."""
    files = generated()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check:
        for path in stale:
            typer.echo(f"{path} is not what the declarations give: run `ward docs`", err=True)
        if stale:
            raise typer.Exit(1)
        return
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
        typer.echo(f"wrote {path}")
