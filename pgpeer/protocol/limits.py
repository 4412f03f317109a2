"""Every number of the conversation with another peer; sizes in bytes, times in seconds."""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1
"""The only version there is."""

# Frames and messages.

MAX_FRAME_BYTES: Final = 60 * 1024
"""The largest frame sent or accepted; it stays below what every link takes."""

MIN_SPLIT_BYTES: Final = 1024
"""A message is not split to fill less room than this."""

MAX_UNAUTHENTICATED_MESSAGE_BYTES: Final = 8 * 1024
"""The largest message before the other side has proven who it is."""

MAX_CONTROL_MESSAGE_BYTES: Final = 8 * 1024 * 1024
"""The largest message outside the credit: vectors, acknowledgements, join payloads."""

MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
"""The largest commit header."""

MAX_SECTION_BYTES: Final = 128 * 1024 * 1024
"""The largest section, unpacked; sections are about 1 MiB, only a single huge row makes a larger one."""

MAX_DATA_MESSAGE_BYTES: Final = MAX_SECTION_BYTES + 4096
"""The largest message within the credit."""

MAX_CHANNEL_BYTES: Final = 256 * 1024 + 64
"""The largest message about the connections of applications."""

# Credit.

CREDIT_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""Bytes of commits and sections that may be sent before the receiver grants more."""

LARGE_MESSAGE_BYTES: Final = CREDIT_WINDOW_BYTES // 2
"""A message above this is granted again as it arrives, otherwise it could never arrive whole."""

LARGE_AT_ONCE: Final = 2
"""So many messages above `LARGE_MESSAGE_BYTES` are in memory at once, of all links together."""

LARGE_STALL_SECONDS: Final = 20.0
LARGE_STALL_BYTES: Final = 256 * 1024
"""While others wait, a large message must come in by so many bytes in so many seconds, or its link ends."""

GRANT_STEP_BYTES: Final = CREDIT_WINDOW_BYTES // 16
"""Grants are collected up to this before they are sent."""

OUTBOX_BYTES: Final = 1024 * 1024
"""While more commits and sections than this wait to be sent, no more are wanted."""

WORK_BURST_BYTES: Final = 16 * 1024 * 1024
WORK_BYTES_PER_SECOND: Final = 1024 * 1024
"""Messages outside the credit are read at this rate in the long run; more only slows their sender down."""

MESSAGE_COST_BYTES: Final = 512
"""What a message outside the credit counts at least."""

CHANNEL_COST_BYTES: Final = 64
"""What a message of programs counts."""

MAX_WAITING_REPLIES: Final = 4096
"""So many different things a side may ask for before it reads the answers; above it is cut off."""

# Packing.

PACKING_LEVEL: Final = 3
"""The zstd level."""

MIN_PACKED_BYTES: Final = 256
"""Less than this is sent as it is."""

FREE_RATIO_BYTES: Final = 8 * 1024 * 1024
"""Up to this unpacked size any ratio is accepted."""

MAX_RATIO: Final = 250
"""Above it, data may not unpack to more than this many times its size; a sender sends it unpacked then."""

# Contents.

MAX_LABEL_BYTES: Final = 256
MAX_PEER_ID_BYTES: Final = 64
MAX_CODE_BYTES: Final = 64
MAX_TEXT_BYTES: Final = 4096
MAX_VECTOR_ENTRIES: Final = 65_536
MAX_PARTIAL_COMMITS: Final = 4096
MAX_SECTIONS: Final = 65_536
MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
"""The largest join payload, as JSON."""

WHOLE_VECTOR_ENTRIES: Final = 32
"""A vector of more entries is announced by its digest first, and sent only when the other side's differs."""

# Time.

HANDSHAKE_SLOW_SECONDS: Final = 2.0
HANDSHAKE_FAIL_SECONDS: Final = 10.0
SILENCE_SLOW_SECONDS: Final = 3.0
"""A ping that is not answered for so long is told as slow."""

PING_SECONDS: Final = 5.0
"""After so long without a frame from the other side it is asked for one."""

DEAD_SECONDS: Final = 15.0
"""After so long without a frame from the other side the session is over."""
