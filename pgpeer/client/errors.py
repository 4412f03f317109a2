"""What programs that talk to peers may have to catch."""

from __future__ import annotations

from pgpeer.errors import PgpeerError


class ConnectionEnded(PgpeerError):
    """A connection to a peer is over, or never came about.

    Attributes:
        reason: `peer-requested-closed` or `connection-error`.
    """

    code = "remote_closed"
    phase = "transfer"
    retryable = True

    def __init__(self, message: str, *, reason: str, code: str, remedy: str = "") -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.reason = reason
