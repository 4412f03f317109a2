"""The ways to a peer as they are now: relays by the hubs, WebRTC, TLS by the known addresses."""

from __future__ import annotations

from pgpeer.signaling.messages import CIRCUITS
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.ice import IceServer, IceSettings
from pgpeer.transport.pipe import Pipe
from pgpeer.transport.ways import RelayWay, TlsWay, Way, WebRTCWay
from pgpeer.worker.addresses import AddressBook
from pgpeer.worker.hubs import Hubs
from pgpeer.worker.negotiator import Negotiator
from pgpeer.worker.office import Office


class Routes:
    """Makes the ways for `Reach`.

    Args:
        office: whose view names servers and addresses.
        hubs: tell where a peer is online, and carry offers and circuits.
        negotiator: exchanges offers and answers through a hub.
        book: the addresses that may be dialled.
        certificate: this worker's.
    """

    def __init__(
        self, office: Office, hubs: Hubs, negotiator: Negotiator, book: AddressBook, certificate: Certificate
    ) -> None:
        self._office = office
        self._hubs = hubs
        self._negotiator = negotiator
        self._book = book
        self._certificate = certificate

    def ways_to(self, peer_id: str, *, is_linked: bool) -> list[Way]:
        """Give at most one way of each kind.

        Args:
            peer_id: the peer.
            is_linked: whether there is a path to it, over which offers can travel.
        """
        ways: list[Way] = []
        url = self._hubs.where(peer_id)
        if url is not None and CIRCUITS in self._hubs.features(url):
            ways.append(RelayWay(lambda: self._open_circuit(url, peer_id), url, self._certificate))
        if url is not None or is_linked:
            exchange = None if url is None else self._negotiator.exchange_with(url, peer_id)
            fail_seconds = self._office.view.connect_timeout
            ways.append(WebRTCWay(self.ice(peer_id), exchange, fail_seconds))
        addresses = self._book.to_dial(peer_id, self._office.view.reach.addresses.get(peer_id, ()))
        if addresses:
            ways.append(
                TlsWay(addresses, self._certificate, lambda *result: self._book.note(peer_id, *result))
            )
        return ways

    def has_way(self, peer_id: str) -> bool:
        """Whether a peer that there is no link to can be tried at all."""
        known = self._office.view.reach.addresses.get(peer_id, ())
        return self._hubs.where(peer_id) is not None or bool(self._book.to_dial(peer_id, known))

    def ice(self, peer_id: str) -> IceSettings:
        """Give the STUN and TURN servers for a peer: those of the relationship first, the hub's last.

        The engine uses the first of each kind.
        """
        view = self._office.view
        own = view.reach.ice.get(peer_id)
        entries = [*([own] if own is not None else []), *(one for one in view.ice if one != own)]
        servers = [IceServer(one.url, one.username, one.credential) for one in entries]
        return IceSettings((*servers, *self._hubs.turn_servers(peer_id)))

    async def _open_circuit(self, url: str, peer_id: str) -> Pipe:
        return await self._hubs.client(url).open_circuit(peer_id)
