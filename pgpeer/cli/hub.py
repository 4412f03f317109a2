"""`pgpeer hub`: serves the hub at which peers meet."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pgpeer.cli.options import Dsn
from pgpeer.cli.output import tell
from pgpeer.cli.serving import WithParent, run_until_stopped
from pgpeer.errors import ConfigError


def run(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 picks a free one.")
    ] = "127.0.0.1:8765",
    public_name: Annotated[
        list[str] | None,
        typer.Option(
            "--public-name", metavar="NAME", help="A host name that a proxy in front of it hides. Repeatable."
        ),
    ] = None,
    dsn: Dsn = None,
    with_parent: WithParent = False,
) -> None:
    """Serve a hub, where peers meet.

    Peers find each other there and agree on a direct connection; the hub sees no data. Prints one line "ready
    ws://..." when it serves. Who is online is kept in memory: a hub that starts again knows it as soon as the
    peers have come back, which takes them seconds. State in a database comes later.
    """
    from pgpeer.hub.server import Hub  # only here: see worker.py

    host, port = _parse_address(listen)
    if dsn is not None:
        tell("note: the hub keeps its state in memory; --dsn is not used yet")

    async def serve(stop: asyncio.Event) -> None:
        async with Hub(host, port, public_names=public_name or ()) as hub:
            typer.echo(f"ready {hub.url}")
            await stop.wait()

    run_until_stopped(serve, with_parent=with_parent)


def _parse_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(
            f"{text!r} is not an address to listen at.", remedy="Give HOST:PORT, such as 127.0.0.1:8765."
        )
    return host, int(port)
