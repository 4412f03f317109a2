"""What the worker asks PostgreSQL about devices of one owner."""

from __future__ import annotations

from pgpeer.identity.device import SignedDevice
from pgpeer.store.database import Connection


async def store_device(connection: Connection, word: SignedDevice, told_by: str | None) -> str:
    """Take a verified word of an owner about a device; `told_by`: who has passed it on.

    Returns:
        'new', or why nothing follows: 'known', 'replay', 'equivocation', 'ignored', or 'foreign' when the
        owner is not that of this database.
    """
    said = word.certificate
    return str(
        await connection.value(
            "SELECT peer_internal.store_device($1, $2, $3, $4, $5, $6, $7)",
            said.owner,
            said.device,
            said.seq,
            word.record,
            said.label,
            said.is_revoked,
            told_by,
        )
    )


async def own_certificate(connection: Connection) -> bytes:
    """Give the certificate that this database is a device of its owner; empty when it is nobody's."""
    found = await connection.value("SELECT peer_internal.own_certificate()")
    return b"" if found is None else bytes(found)


async def device_records(connection: Connection) -> list[bytes]:
    """Give the last words of the owner of this database about each device."""
    rows = await connection.fetch("SELECT record FROM peer_internal.device_records()")
    return [bytes(row["record"]) for row in rows]
