"""The command line as a whole: every command, and how refusals leave it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

import pgpeer
from pgpeer.cli import (
    bundle,
    commit,
    conflicts,
    diff,
    doctor,
    friend,
    hub,
    identity,
    init,
    invite,
    join,
    log,
    owner,
    peers,
    resolve,
    show,
    status,
    track,
    uninstall,
    verify,
    worker,
)
from pgpeer.cli.demo import command as demo
from pgpeer.cli.output import tell_refusal
from pgpeer.errors import PgpeerError

FAILED: Final = 1
"""The exit code of everything that was understood but could not be done; wrong usage is 2."""


class RefusingGroup(TyperGroup):
    """Turns a refusal into one sentence and a remedy on standard error, and exit code 1."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer brings its own click, under no public name
        """Runs the chosen command."""
        try:
            return super().invoke(ctx)
        except PgpeerError as error:
            tell_refusal(error)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(130) from error


app = typer.Typer(
    name="pgpeer",
    cls=RefusingGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pgpeer {pgpeer.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Version control and peer-to-peer exchange for the rows of ordinary PostgreSQL tables.

    Every command that needs a database takes --dsn or the environment variable PGPEER_DSN.
    """


app.command("init")(init.run)
app.command("worker")(worker.run)
app.command("hub")(hub.run)
app.command("demo")(demo.run)
app.add_typer(bundle.app, name="bundle")
app.command("track")(track.track)
app.command("untrack")(track.untrack)
app.command("commit")(commit.run)
app.command("status")(status.run)
app.command("log")(log.run)
app.command("diff")(diff.run)
app.command("show")(show.run)
app.command("conflicts")(conflicts.run)
app.command("resolve")(resolve.run)
app.command("invite")(invite.run)
app.command("join")(join.run)
app.command("peers")(peers.run)
app.add_typer(friend.app, name="friend")
app.add_typer(identity.app, name="identity")
app.add_typer(owner.app, name="owner")
app.command("verify")(verify.run)
app.command("doctor")(doctor.run)
app.command("uninstall")(uninstall.run)


def main() -> None:
    """The entry point of the installed command."""
    app()
