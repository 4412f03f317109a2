"""Why a peer was not reached, and whose word that is.

Only a peer itself can refuse for good: by a signed signal, or on a path on which it has proven who it is.
What a hub says in a peer's name, or whoever ends a path before the proof, may be a lie: it is tried again.
"""

from __future__ import annotations

from typing import Final

from pgpeer.errors import HubError, PgpeerError

FRAUDS: Final = frozenset({"bad_signature", "identity_mismatch"})
"""The codes that say that somebody stands between, or in the peer's place."""

REFUSALS: Final = frozenset({"refused_policy", "refused_blocked"})
"""The codes with which a peer says that it does not want this one."""

MISTAKES: Final = frozenset({"identity_mismatch", "bad_signature", "bad_message"})
"""The codes that tell that a path leads to somebody else."""

PEERS_OWN: Final = FRAUDS | REFUSALS | {"version_mismatch"}
"""The codes that are worth something only from the peer, or from what was seen here."""


def as_hubs_word(error: PgpeerError) -> PgpeerError:
    """Give an error as it is; where a hub says what only the peer can say, one that can be tried again."""
    if not isinstance(error, HubError) or error.code not in PEERS_OWN:
        return error
    return HubError(
        f"The hub says in the peer's name: {error}",
        code="relay_refused",
        phase=error.phase,
        retryable=True,
        remedy="The peer itself has not said so. It is asked again, through another hub where there is one.",
    )


def most_telling(reasons: list[PgpeerError]) -> PgpeerError:
    """Of the reasons of all ways, at least one, give the one that tells people most.

    Somebody else at the other end, the peer's refusal, another version, or the network; else the last one.
    """
    for codes in (FRAUDS, REFUSALS, {"version_mismatch"}):
        found = [error for error in reasons if error.code in codes]
        if found:
            return found[-1]
    return ([error for error in reasons if error.phase == "ice"] or reasons)[-1]
