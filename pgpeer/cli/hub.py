"""`pgpeer hub`: serves the hub at which peers meet."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pgpeer.cli.output import tell
from pgpeer.cli.serving import WithParent, run_until_stopped
from pgpeer.config import Settings
from pgpeer.errors import ConfigError, EmbeddedError

if TYPE_CHECKING:
    from pgpeer.embedded import Cluster
    from pgpeer.hub.store import HubStore
    from pgpeer.signaling.turn import TurnService

_SMALL: Final = {"shared_buffers": "16MB", "max_connections": "20", "max_wal_size": "128MB"}


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
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", metavar="DSN", help="The database for its state; default: one of its own."),
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Keep its state in memory only.")] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="FILE", help="Serve wss:// with this chain."),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="FILE", help="The key of the first certificate."),
    ] = None,
    turn_url: Annotated[
        list[str] | None,
        typer.Option("--turn-url", metavar="URL", help="A TURN server for its peers. Repeatable."),
    ] = None,
    turn_secret_file: Annotated[
        Path | None,
        typer.Option("--turn-secret-file", metavar="FILE", help="Holds their static-auth-secret."),
    ] = None,
    url: Annotated[
        str,
        typer.Option(
            "--url",
            metavar="URL",
            help="Where clients of other processes reach it.",
        ),
    ] = "",
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy",
            metavar="ADDRESS",
            help="The address of a proxy in front of it, whose X-Forwarded-For is believed. Repeatable.",
        ),
    ] = None,
    with_parent: WithParent = False,
) -> None:
    """Serve a hub, where peers meet.

    Peers find each other there and agree on a direct connection; until they have one, their encrypted data
    goes through the hub. Prints one line "ready ws://..." when it serves. Registrations and mail are kept in
    a database: that of --dsn, which several hub processes may share, or else an embedded one, which with port
    0 ends with the hub.
    """
    from pgpeer.hub.server import Hub  # only here: see worker.py

    host, port = _parse_address(listen)
    tls = _tls(tls_cert, tls_key)
    turn = _turn(turn_url or [], turn_secret_file)
    if memory and dsn is not None:
        raise ConfigError("--memory and --dsn exclude each other.", remedy="Give one of them.")

    store = _store(dsn, port, memory=memory)

    async def serve(stop: asyncio.Event) -> None:
        hub = Hub(
            host,
            port,
            public_names=public_name or (),
            store=store,
            tls=tls,
            turn=turn,
            public_url=url,
            proxies=proxy or (),
        )
        async with hub:
            typer.echo(f"ready {hub.url}")
            stopped, failed = asyncio.create_task(stop.wait()), asyncio.create_task(hub.failed())
            try:
                await asyncio.wait([stopped, failed], return_when=asyncio.FIRST_COMPLETED)
                if failed.done():
                    failed.result()
            finally:
                for task in (stopped, failed):
                    task.cancel()

    run_until_stopped(serve, with_parent=with_parent)


def _store(dsn: str | None, port: int, *, memory: bool) -> HubStore | None:
    """Give the store that the options ask for; None for one in memory."""
    from pgpeer.hub.embedded import EmbeddedStore
    from pgpeer.hub.postgres import PostgresStore
    from pgpeer.signaling.limits import HubLimits

    if dsn is not None:
        return PostgresStore(dsn, HubLimits())
    cluster = None if memory else _cluster(port)
    return None if cluster is None else EmbeddedStore(cluster, HubLimits())


def _cluster(port: int) -> Cluster | None:
    """Prepare the embedded database of a hub: a lasting one for each port, for port 0 one for this time."""
    from pgpeer.embedded import Cluster

    if port:
        directory = Settings.read().data_directory / f"hub-{port}"
    else:
        directory = Path(tempfile.gettempdir()) / f"pgpeer-hub-{secrets.token_hex(8)}"
    if sys.stderr.isatty():
        tell("note: starting the hub's own PostgreSQL, which takes some seconds the first time")
    try:
        return Cluster(directory, settings=_SMALL, persistent=bool(port))
    except EmbeddedError as error:
        tell(f"note: {error} The hub keeps its state in memory: mail and registrations end with it.")
        return None


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("--tls-cert and --tls-key belong together.", remedy="Give both or none.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The certificate {certificate} with the key {key} cannot be used: {error}.",
            remedy="Give PEM files: the certificate with its chain, and its key without a password.",
        ) from error
    return context


def _turn(urls: list[str], secret_file: Path | None) -> TurnService | None:
    from pgpeer.signaling.turn import TurnService

    if not urls and secret_file is None:
        return None
    if secret_file is None:
        raise ConfigError(
            "--turn-url needs --turn-secret-file.",
            remedy="Put the static-auth-secret of the TURN server into a file.",
        )
    try:
        secret = secret_file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"The file {secret_file} cannot be read: {error.strerror or error}.",
            remedy="Check its name and rights.",
        ) from error
    return TurnService(tuple(urls), secret)


def _parse_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(
            f"{text!r} is not an address to listen at.", remedy="Give HOST:PORT, such as 127.0.0.1:8765."
        )
    return host, int(port)
