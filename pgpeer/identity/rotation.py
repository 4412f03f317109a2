"""A new key in place of an old one, in steps that can be repeated after a crash at any moment.

The new key lies beside the old one as `<path>.next` until everything else is done; the old one stays as
`<path>.old-…`, because a restored database may still need it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pgpeer.errors import IdentityError
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.identity.ledger import sync_directory


def next_file(file: IdentityFile) -> IdentityFile:
    """Where the next key of an identity file lies while it is being introduced."""
    return IdentityFile(file.path.with_name(file.path.name + ".next"))


def prepare_next(file: IdentityFile) -> PrivateKey:
    """Give the next key, which is made unless there is one; durable on return.

    Raises:
        IdentityError: it cannot be read or written.
    """
    following = next_file(file)
    return following.load() if following.exists() else following.create()


def discard_next(file: IdentityFile) -> None:
    """Forget the next key. Only while nobody has been told of it."""
    with suppress(FileNotFoundError):
        next_file(file).path.unlink()
        sync_directory(file.path.parent)


def install_next(file: IdentityFile) -> Path:
    """Put the next key in the place of the present one.

    At every moment one whole key lies at the path; after a crash the call can be repeated.

    Returns:
        Where the old key is kept, with its ledger.

    Raises:
        IdentityError: there is no next key, or the files cannot be changed.
    """
    following = next_file(file)
    following.load()
    old = file.load()
    retired = file.path.with_name(f"{file.path.name}.old-{old.peer_id[:11]}")
    try:
        with suppress(FileExistsError):
            os.link(file.path, retired)
        with suppress(FileNotFoundError):
            file.ledger_path.replace(IdentityFile(retired).ledger_path)
        following.path.replace(file.path)
        sync_directory(file.path.parent)
    except OSError as error:
        raise IdentityError(
            f"The identity file '{file.path}' cannot be replaced: {error.strerror}.",
            remedy="Make the directory writable and run the command again.",
            code="identity_file",
        ) from error
    return retired
