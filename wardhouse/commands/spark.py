"""``ward spark``: master and workers of a standalone Spark cluster, out of the installed pyspark."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A Spark cluster of one's own: its master, its workers.", no_args_is_help=True)

_DEPLOY = "org.apache.spark.deploy"

HostOption = Annotated[str, typer.Option(help="Name or address under which the others reach it.")]


@app.command()
def master(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port that workers and applications use.", min=0, max=65535)] = 7077,
    ui_port: Annotated[int, typer.Option(help="Port of its page and state.", min=0, max=65535)] = 8080,
) -> None:
    """Run the master until it is stopped. Settings, such as the shared secret, are those of SPARK_CONF_DIR."""
    where = ("--host", host, "--port", str(port), "--webui-port", str(ui_port))
    _become(f"{_DEPLOY}.master.Master", where)


@app.command()
def worker(
    master_url: Annotated[str, typer.Argument(metavar="MASTER", help="spark://HOST:PORT")],
    cores: Annotated[int, typer.Option(help="Task slots to offer; may be more than the machine has cores.", min=1)] = 8,
    memory: Annotated[str, typer.Option(help="Memory to offer to executors, such as 4g.")] = "4g",
    host: Annotated[str | None, typer.Option(help="Name or address under which the others reach it.")] = None,
    ui_port: Annotated[int, typer.Option(help="Port of its page and state.", min=0, max=65535)] = 8081,
    work_dir: Annotated[Path, typer.Option(help="Folder for logs of executors.")] = Path("/tmp/spark-work"),  # noqa: S108
) -> None:
    """Run a worker until it is stopped; it tries to reach its master for some minutes, also after losing it."""
    what = ("--cores", str(cores), "--memory", memory, "--webui-port", str(ui_port), "--work-dir", str(work_dir))
    _become(f"{_DEPLOY}.worker.Worker", (*(("--host", host) if host else ()), *what, master_url))


def _become(program: str, arguments: tuple[str, ...]) -> None:
    """Let this process be Spark's: whoever stops it stops Spark, and no second process outlives it. Raises Failure."""
    from importlib.util import find_spec

    from wardhouse.bootstrap import SetupError, find_java
    from wardhouse.errors import Failure, failures

    with failures(SetupError):
        found = find_spec("pyspark")
        if found is None or found.origin is None:
            raise Failure("no pyspark here: this installation was made without it")
        java = find_java()
        home = Path(found.origin).parent
        environment = {
            **os.environ,
            "JAVA_HOME": str(Path(java.path).resolve().parents[1]),
            "SPARK_HOME": str(home),
            # An executor runs our Java code alone; a Python of another machine would be asked for in vain.
            "SPARK_SCALA_VERSION": "2.13",
        }
        spark_class = str(home / "bin" / "spark-class")
        os.execvpe(spark_class, [spark_class, program, *arguments], environment)  # noqa: S606 - our own argument list
