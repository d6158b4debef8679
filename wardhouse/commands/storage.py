"""``ward storage``: where the tables and checkpoints of a data dir are."""

from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, data_dir

if TYPE_CHECKING:
    from lakehouse.stores import Trial

app = typer.Typer(help="Where tables and checkpoints are: in the data dir, or in S3 or HDFS.", no_args_is_help=True)


@app.command()
def use(
    uri: Annotated[
        str,
        typer.Argument(
            help="s3a://BUCKET/FOLDER, in a bucket that there is, or hdfs://NAMENODE:PORT/FOLDER.", metavar="URI"
        ),
    ],
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Keep tables and checkpoints of this data dir there, once and for all; it must have none yet.

    The address of an S3 store and who asks are read from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY, as AWS's own tools do, those of HDFS from HADOOP_CONF_DIR and HADOOP_USER_NAME, by every
    command on this data dir.
    """
    from lakehouse.storage import at, file_of, tried
    from lakehouse.stores import StorageError
    from wardhouse.errors import Failure, failures

    data = data_dir(path)
    with failures(StorageError):
        place = at(uri)
        there = data.lake
        if str(there) == str(place):
            typer.echo(f"{data.root} has its tables in {place} already")
            return
        if there != data.root or data.table_root.exists():
            raise Failure(f"{data.root} has its tables in {there}: give another --data-dir")
        _say(tried(place))
        data.root.mkdir(parents=True, exist_ok=True)
        file_of(data.root).write_text(f"{place}\n", encoding="utf-8")
    typer.echo(f"{data.root} has its tables and checkpoints in {place} from now on")
    if data_dir(path).table_root.exists():
        typer.echo("there are tables already, which it goes on with: no other data dir may use them from now on")


@app.command()
def check(path: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Try the storage of this data dir; exit code 1 where it cannot be used, or keeps what it gets unencrypted."""
    from pathlib import Path

    from lakehouse.storage import tried
    from lakehouse.stores import StorageError
    from wardhouse.errors import Failure, failures

    data = data_dir(path)
    with failures(StorageError):
        place = data.lake
        typer.echo(f"tables and checkpoints: {place}")
        if isinstance(place, Path):
            typer.echo("a disk: whether it is encrypted, its machine knows (docs/storage.md)")
            return
        trial = tried(place)
        _say(trial)
        if trial.encryption is None and trial.elsewhere is None:
            raise Failure(f"{place} keeps what it gets unencrypted: set encryption by default for its bucket")


def _say(trial: "Trial") -> None:
    unsaid = trial.elsewhere or "not encrypted, as far as the store says"
    kept = f"encrypted ({trial.encryption})" if trial.encryption else unsaid
    typer.echo(f"written, listed, read and removed; {kept}")
    if not trial.exclusive:
        typer.echo("it overwrites what must not be: nothing but this data dir may write these tables", err=True)
