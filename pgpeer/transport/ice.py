"""What pgpeer needs from ICE beyond aiortc's public interface; its private parts are used in this file only.

aioice never offers 127.0.0.1, so that two peers on a host without any network could not meet, and its
gathering takes up to five seconds when a STUN server does not answer. Both are settled on the one connection
concerned, not globally. aiortc does not tell the selected candidate pair either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import aioice
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.rtcicetransport import parse_stun_turn_uri

from pgpeer.errors import ConfigError
from pgpeer.transport.base import Candidate

GATHERING_SECONDS: Final = 2
"""How long STUN and TURN servers may take to answer; candidates found until then are offered."""

LOOPBACK_ADDRESSES: Final = ("127.0.0.1",)
"""Offered only when the host has no other address."""


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server.

    Attributes:
        url: `stun:host:port`, `turn:host:port` or `turns:host:port`.
        username: for TURN.
        credential: for TURN.
    """

    url: str
    username: str | None = None
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class IceSettings:
    """How candidates are found.

    Attributes:
        servers: STUN and TURN servers; the engine uses the first of each kind. Empty: host candidates only.
        relay_only: whether to use TURN relays alone, which hides the addresses of this host.
    """

    servers: tuple[IceServer, ...] = ()
    relay_only: bool = False


def configuration(settings: IceSettings) -> RTCConfiguration:
    """Return the engine's configuration.

    Raises:
        ConfigError: a server URL is malformed.
    """
    servers = []
    for server in settings.servers:
        try:
            parse_stun_turn_uri(server.url)
        except ValueError as error:
            raise ConfigError(
                f"{server.url!r} is not the URL of a STUN or TURN server.",
                remedy="Write it as stun:host:port, turn:host:port or turns:host:port in peer.stun_server.",
            ) from error
        servers.append(RTCIceServer(server.url, server.username, server.credential))
    policy = RTCIceTransportPolicy.RELAY if settings.relay_only else RTCIceTransportPolicy.ALL
    return RTCConfiguration(iceServers=servers, iceTransportPolicy=policy)


def prepare_gathering(connection: RTCPeerConnection, settings: IceSettings) -> None:
    """Limit the gathering of a connection in time and let it fall back to loopback addresses."""
    ice = _ice_of(connection)
    gather = ice.get_component_candidates

    async def gather_in_time(
        component: int, addresses: list[str], timeout: int = 5
    ) -> list[aioice.Candidate]:
        if not addresses and not settings.relay_only:
            addresses = list(LOOPBACK_ADDRESSES)
        return await gather(component, addresses, timeout=min(timeout, GATHERING_SECONDS))

    ice.get_component_candidates = gather_in_time  # type: ignore[method-assign]


def has_candidates(connection: RTCPeerConnection) -> bool:
    """Tell whether gathering found any address to offer."""
    return bool(_ice_of(connection).local_candidates)


def selected_pair(connection: RTCPeerConnection) -> tuple[Candidate, Candidate] | None:
    """Return the local and the remote candidate in use; None when no pair is selected."""
    pair = _ice_of(connection)._nominated.get(1)  # noqa: SLF001
    if pair is None:
        return None
    return _candidate(pair.local_candidate), _candidate(pair.remote_candidate)


def _candidate(candidate: aioice.Candidate) -> Candidate:
    return Candidate(candidate.type, candidate.host, candidate.port, candidate.transport.lower())


def _ice_of(connection: RTCPeerConnection) -> aioice.Connection:
    sctp = connection.sctp
    assert sctp is not None, "the data channel is made first"
    return sctp.transport.transport.iceGatherer._connection  # noqa: SLF001
