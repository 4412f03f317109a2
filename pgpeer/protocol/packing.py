"""Sections on the wire: zstd when it helps, and unpacking that cannot be made to take too much memory."""

from __future__ import annotations

import zstandard

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import limits


class Packer:
    """Packs and unpacks sections; one for each session, not for several threads."""

    __slots__ = ("_compressor", "_decompressor")

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=limits.PACKING_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()

    def pack(self, data: bytes) -> tuple[bool, bytes]:
        """Give whether the data is packed, and the bytes to send."""
        if len(data) < limits.MIN_PACKED_BYTES:
            return False, data
        packed = self._compressor.compress(data)
        if len(packed) >= len(data) or len(data) > allowed_size(len(packed)):
            return False, data
        return True, packed

    def unpack(self, packed: bytes) -> bytes:
        """Give the data again; its size is checked before any memory is taken for it.

        Raises:
            RemoteProtocolError: it is not packed data, or would be larger than is allowed.
        """
        size = unpacked_size(packed)
        try:
            data = self._decompressor.decompress(packed, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise RemoteProtocolError("A packed section cannot be unpacked.", phase="transfer") from error
        if len(data) != size:
            raise RemoteProtocolError("A packed section has another size than it says.", phase="transfer")
        return data


def unpacked_size(packed: bytes) -> int:
    """Give the size that packed data says it has.

    Raises:
        RemoteProtocolError: it is not packed data, or would be larger than is allowed.
    """
    try:
        size = zstandard.get_frame_parameters(packed).content_size
    except zstandard.ZstdError as error:
        raise RemoteProtocolError("A packed section cannot be unpacked.", phase="transfer") from error
    if size > allowed_size(len(packed)):
        raise RemoteProtocolError(
            f"A section of {len(packed)} bytes would unpack to more than {allowed_size(len(packed))} bytes.",
            code="too_large",
            phase="transfer",
        )
    return size


def allowed_size(packed: int) -> int:
    """Give the most bytes that so many packed bytes may become."""
    return min(limits.MAX_SECTION_BYTES, max(limits.FREE_RATIO_BYTES, packed * limits.MAX_RATIO))
