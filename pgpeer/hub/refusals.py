"""What a hub refuses to keep, said alike by every store."""

from __future__ import annotations

from pgpeer.errors import HubError


def older_record() -> HubError:
    """A newer record of the peer is listed."""
    return HubError(
        "A newer record of this peer is listed in the namespace.",
        remedy="Sign a new record with a higher number.",
        code="replay",
        phase="signalling",
        retryable=False,
    )


def same_number() -> HubError:
    """Another record of the same number is listed."""
    return HubError(
        "Another record of this peer with the same number is listed in the namespace.",
        remedy="Sign a new record with a higher number; if this repeats, two workers use one identity.",
        code="replay",
        phase="signalling",
        retryable=False,
    )


def too_many_namespaces(limit: int) -> HubError:
    """The peer is listed in as many namespaces as it may be."""
    return HubError(
        f"A peer can be listed in at most {limit} namespaces.",
        remedy="Unregister from some.",
        code="quota",
        phase="signalling",
    )


def full_mailbox() -> HubError:
    """The mailbox of the recipient, the sender's share of it, or the whole store is full."""
    return HubError(
        "The mailbox of that peer takes no more.",
        remedy="Try again when the peer has been online, or reach it directly.",
        code="quota",
        phase="signalling",
    )


def unreachable() -> HubError:
    """The hub's database cannot be reached."""
    return HubError(
        "The hub cannot reach its database.",
        remedy="Try again later; signals and circuits work meanwhile.",
        code="internal",
        phase="signalling",
    )
