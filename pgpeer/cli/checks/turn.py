"""TURN servers: whether they give out a relayed address, and take the name and password."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

from aioice import stun, turn
from aiortc.rtcicetransport import parse_stun_turn_uri

from pgpeer.cli.checks.finding import Finding, well
from pgpeer.cli.checks.thread import reason, resolution_failure

TURN_SECONDS: Final = 3.0
_GOODBYE_SECONDS: Final = 1.0
_UNAUTHORIZED: Final = (401, 441)
_FORBIDDEN: Final = 403
_FULL: Final = (486, 508)
_REMEDY: Final = {
    "peer.stun_server": "Correct its row in peer.stun_server, or remove it.",
    "the hub": "Whoever runs the hub must correct --turn-url, or start that server.",
}


@dataclass(frozen=True, slots=True)
class TurnServer:
    """A TURN server with what a peer would use it with.

    Attributes:
        url: `turn:host:port`, `turns:host:port`, perhaps with `?transport=tcp`.
        username: its name for us.
        credential: its password for us.
        source: who named it: `peer.stun_server` or `the hub`.
    """

    url: str
    username: str | None
    credential: str | None
    source: str


class _Allocation(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.over = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


async def check_turn(server: TurnServer) -> Finding:
    """Makes an allocation, as a connection would, and gives it back (RFC 8656 section 7)."""
    try:
        parts = parse_stun_turn_uri(server.url)
    except ValueError:
        return _bad(server, "turn_url", "is not the URL of a TURN server", _remedy(server))
    unresolved = await resolution_failure(parts["host"], TURN_SECONDS)
    if unresolved is not None:
        return _bad(server, "turn_unreachable", f"cannot be reached: {unresolved}", _remedy(server))
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(TURN_SECONDS):
            transport, allocation = await turn.create_turn_endpoint(
                _Allocation,
                server_addr=(parts["host"], parts["port"]),
                username=server.username,
                password=server.credential,
                ssl=parts["scheme"] == "turns",
                transport=parts["transport"],
            )
    except stun.TransactionFailed as error:
        return _refused(server, *error.response.attributes.get("ERROR-CODE", (0, "")))
    except (TimeoutError, stun.TransactionTimeout):
        what = "does not answer; packets to it or from it do not get through"
        return _bad(server, "turn_unreachable", what, _remedy(server))
    except ssl.SSLError as error:
        return _bad(server, "turn_certificate", f"has no good certificate: {error.reason}", _remedy(server))
    except OSError as error:
        return _bad(server, "turn_unreachable", f"cannot be reached: {reason(error)}", _remedy(server))
    seconds = loop.time() - began
    host, port = transport.get_extra_info("sockname")[:2]
    transport.close()
    try:
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await allocation.over.wait()
    except TimeoutError:
        pass  # the server frees it by itself when its time is over
    return well("turn", f"The TURN server {server.url} of {server.source} relays at {host}:{port}.", seconds)


def _refused(server: TurnServer, code: int, words: str) -> Finding:
    if code in _UNAUTHORIZED and server.source == "the hub":
        return _bad(
            server,
            "turn_credentials",
            "refuses the name and password that the hub has just made",
            "Whoever runs the hub: its --turn-secret-file must hold the static-auth-secret of that server "
            "(with use-auth-secret), and the clocks of both must be right.",
        )
    if code in _UNAUTHORIZED and server.username is None:
        return _bad(
            server, "turn_credentials", "wants a name and a password", "Enter both in peer.stun_server."
        )
    if code in _UNAUTHORIZED:
        return _bad(
            server,
            "turn_credentials",
            f"refuses the name {server.username!r} with this password",
            "Correct username and credential in peer.stun_server.",
        )
    if code == _FORBIDDEN:
        return _bad(server, "turn_refused", "does not let this database relay (403)", "Ask who runs it.")
    if code in _FULL:
        return _bad(server, "turn_full", f"has no room now ({code} {words})", "Try again later.")
    return _bad(server, "turn_refused", f"refuses ({code} {words})", _remedy(server))


def _bad(server: TurnServer, kind: str, what: str, remedy: str) -> Finding:
    return Finding("turn", "fail", kind, f"The TURN server {server.url} of {server.source} {what}.", remedy)


def _remedy(server: TurnServer) -> str:
    return _REMEDY[server.source]
