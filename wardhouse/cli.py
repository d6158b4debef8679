"""The command ``ward``: every component, and everything a person or a DAG does, is one of its commands."""

import typer

from wardhouse.commands import broker, docs, plan, stream, verify

app = typer.Typer(
    name="ward",
    help="A hospital's vital signs, from the bedside monitor to the research table. Not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command("broker")(broker.broker)
app.command("stream")(stream.stream)
app.command("verify")(verify.verify)
app.command("plan")(plan.plan)
app.command("apply")(plan.apply)
app.command("docs")(docs.docs)


def main() -> None:
    """Entry point of the command."""
    app()
