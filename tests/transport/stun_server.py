"""A STUN server (RFC 8489, binding requests only)."""

from __future__ import annotations

import asyncio
from typing import Any

from aioice import stun


class Stun(asyncio.DatagramProtocol):
    """Tells everybody the address that its packets come from."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        try:
            request = stun.parse_message(data)
        except ValueError:
            return
        if request.message_method == stun.Method.BINDING and request.message_class == stun.Class.REQUEST:
            answer = stun.Message(
                stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id
            )
            answer.attributes["XOR-MAPPED-ADDRESS"] = address[:2]
            self.transport.sendto(bytes(answer), address)
