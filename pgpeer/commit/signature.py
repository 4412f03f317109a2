"""The author's signature over a commit: domain "commit", payload the header's digest."""

from __future__ import annotations

from typing import Final

from pgpeer.commit.cid import commit_id
from pgpeer.errors import CommitError, IdentityError
from pgpeer.identity.key import PrivateKey, verify

COMMIT_DOMAIN: Final = "commit"


def sign_commit(key: PrivateKey, digest: bytes) -> bytes:
    """Give the 64-byte signature of a commit's digest; record the digest in the key's ledger before."""
    return key.sign(COMMIT_DOMAIN, digest)


def verify_commit(author: bytes, digest: bytes, signature: bytes) -> None:
    """Return when the signature is the author's (32-byte public key) for this digest.

    Raises:
        CommitError: it is not.
    """
    try:
        verify(author, COMMIT_DOMAIN, digest, signature)
    except IdentityError as error:
        raise CommitError(
            f"The signature of commit {commit_id(digest)} is not its author's.",
            remedy="The peer that sent it has changed it: ask another member for the commit.",
        ) from error
