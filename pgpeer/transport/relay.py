"""Links through a hub: TLS 1.3 inside a circuit, so that the hub carries ciphertext only."""

from __future__ import annotations

from pgpeer.transport.base import Candidate, LinkPath
from pgpeer.transport.certificate import Certificate
from pgpeer.transport.pipe import Pipe
from pgpeer.transport.tls import TlsLink, open_tls


async def open_relay(
    circuit: Pipe,
    certificate: Certificate,
    *,
    hub_url: str,
    is_opener: bool,
    expected_fingerprint: bytes | None = None,
) -> TlsLink:
    """Make a link over a circuit that both sides have accepted.

    Args:
        circuit: the circuit; the link closes it.
        certificate: this side's.
        hub_url: names the hub in the link's path.
        is_opener: whether this side asked for the circuit; it is the TLS client.
        expected_fingerprint: see `open_tls`.

    Raises:
        TransportError: the handshake failed; the circuit is closed.
    """
    hub = Candidate("relay", hub_url, 0, "websocket")
    return await open_tls(
        circuit,
        certificate,
        LinkPath("relay", "hub", hub, hub),
        is_client=is_opener,
        expected_fingerprint=expected_fingerprint,
    )
