"""The error tree: every refusal is one sentence for a person, a remedy, and a code for a program."""

from __future__ import annotations

from typing import Final

PHASES: Final = frozenset(
    {
        "resolve",
        "hub_connect",
        "hub_auth",
        "signalling",
        "ice",
        "dtls",
        "tls",
        "identity",
        "hello",
        "sync",
        "transfer",
    }
)
"""Where on the way to a working link an error happened."""

CODES: Final = frozenset(
    {
        "timeout",
        "slow",
        "refused_policy",
        "refused_blocked",
        "peer_offline",
        "id_unknown",
        "identity_mismatch",
        "version_mismatch",
        "too_large",
        "rate_limited",
        "target_overloaded",
        "replaced",
        "bad_signature",
        "bad_message",
        "replay",
        "ice_failed",
        "relay_refused",
        "quota",
        "remote_closed",
        "local_closed",
        "internal",
    }
)
"""The codes that may cross the wire; anything else a peer sends is shown as `internal`."""


class PgpeerError(Exception):
    """The base of everything that pgpeer refuses.

    `str(error)` is one clear sentence and `error.remedy` says what to do next. The class attributes are
    defaults; one instance may say something more precise.

    Args:
        message: the sentence, without a final newline.
        remedy: what the reader can do; empty when there is nothing to do but wait.
        code: a member of `CODES`, or a snake_case word that stays on this machine.
        phase: a member of `PHASES`, or empty.
        retryable: whether the same attempt can succeed later with nothing changed here.
    """

    code: str = "internal"
    phase: str = ""
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        code: str | None = None,
        phase: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.remedy = remedy
        if code is not None:
            self.code = code
        if phase is not None:
            self.phase = phase
        if retryable is not None:
            self.retryable = retryable


class ConfigError(PgpeerError):
    """A setting, argument or environment variable cannot be used."""

    code = "config"


class StoreError(PgpeerError):
    """PostgreSQL refused or could not be reached; `sqlstate` is its five-character code, or empty."""

    code = "store"

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str = "",
        remedy: str = "",
        code: str | None = None,
        phase: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, code=code, phase=phase, retryable=retryable)
        self.sqlstate = sqlstate


class EmbeddedError(PgpeerError):
    """The embedded PostgreSQL could not be found, started or stopped."""

    code = "embedded"


class IdentityError(PgpeerError):
    """A key, peer id, signature or identity file is wrong or in use."""

    code = "identity_mismatch"
    phase = "identity"


class InviteError(PgpeerError):
    """An invite link is malformed, expired or already used."""

    code = "bad_invite"


class CommitError(PgpeerError):
    """A commit header or its signature is not what the rules allow."""

    code = "bad_signature"
    phase = "sync"


class TransportError(PgpeerError):
    """A link to a peer could not be made or broke."""

    code = "ice_failed"
    phase = "ice"
    retryable = True


class LinkClosed(TransportError):
    """The link is closed: nothing more can be sent, and everything received was already handed out."""

    code = "remote_closed"
    phase = "transfer"


class FrameTooLarge(TransportError):
    """A frame is larger than the link takes; nothing of it was sent and the link is still usable."""

    code = "too_large"
    phase = "transfer"
    retryable = False


class HubError(PgpeerError):
    """The hub cannot be reached, refused, or broke the conversation."""

    code = "remote_closed"
    phase = "hub_connect"
    retryable = True


class ProtocolError(PgpeerError):
    """The conversation with a peer or a hub went against its rules."""

    code = "bad_message"
    phase = "sync"


class LocalProtocolError(ProtocolError):
    """Our side asked for something that the conversation does not allow now: a bug here, nothing was sent."""

    code = "internal"


class RemoteProtocolError(ProtocolError):
    """The other side broke the rules; the conversation must be closed."""
