"""The identity file: where the private key lives, beside the worker and never in the database."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, Self

from pgpeer.errors import IdentityError
from pgpeer.identity.key import PrivateKey
from pgpeer.identity.ledger import LedgerEntry, SignatureLedger, sync_directory

_SIZE_LIMIT: Final = 4096


class IdentityFile:
    """The file that holds one private key, readable by its owner only (mode 0600).

    Beside it lies `<path>.ledger`, the record of what the key has signed. All calls block on the disk.
    """

    __slots__ = ("path",)

    _KIND: ClassVar[str] = "pgpeer identity"
    _NAME: ClassVar[str] = "identity"
    _BY_OPTION: ClassVar[str] = " with --identity"
    _ORIGIN: ClassVar[str] = "Run 'pgpeer init' for this database first, or name the file with --identity."

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def ledger_path(self) -> Path:
        """Where the signature ledger lies."""
        return self.path.with_name(self.path.name + ".ledger")

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def create(self, key: PrivateKey | None = None) -> PrivateKey:
        """Write a key (by default a new one) to the file, which must not exist.

        Missing directories are made with mode 0700. The file appears whole or not at all, and is durable on
        return.

        Raises:
            IdentityError: the file exists already (it is left as it is) or cannot be written.
        """
        key = key or PrivateKey.generate()
        document = {"kind": self._KIND, "version": 1, "peer_id": key.peer_id, "seed": key.seed.hex()}
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(json.dumps(document, indent=1) + "\n")
                    file.flush()
                    os.fsync(descriptor)
                os.link(temporary, self.path)
            finally:
                os.unlink(temporary)
            sync_directory(self.path.parent)
        except FileExistsError as error:
            raise IdentityError(
                f"The {self._NAME} file '{self.path}' exists already.",
                remedy=f"Use it as it is, or name another file{self._BY_OPTION}.",
                code="identity_exists",
            ) from error
        except OSError as error:
            raise IdentityError(
                f"The {self._NAME} file '{self.path}' cannot be written: {error.strerror}.",
                remedy=f"Name a file in a directory that you may write to{self._BY_OPTION}.",
                code="identity_file",
            ) from error
        return key

    def load(self) -> PrivateKey:
        """Read the key.

        Raises:
            IdentityError: the file is missing, unreadable, open to other users, or damaged.
        """
        try:
            with self.path.open("rb") as file:
                return self._read(file.fileno())
        except FileNotFoundError as error:
            raise self._missing() from error
        except OSError as error:
            raise self._unreadable(error) from error

    def hold(self) -> HeldIdentity:
        """Take the key for this process alone, with its ledger; use it in a `with` statement or close it.

        Raises:
            IdentityError: another worker holds it (code `identity_in_use`), or as `load`.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise self._missing() from error
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise IdentityError(
                    f"The identity '{self.path}' is in use by another worker.",
                    remedy="Stop the other worker, or give this database its own identity with --identity.",
                    code="identity_in_use",
                ) from error
            key = self._read(descriptor)
            return HeldIdentity(key, SignatureLedger(self.ledger_path), descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def _read(self, descriptor: int) -> PrivateKey:
        mode = os.fstat(descriptor).st_mode
        if mode & 0o077:
            raise IdentityError(
                f"The {self._NAME} file '{self.path}' is open to other users (mode {mode & 0o777:o}).",
                remedy=f"Run: chmod 600 '{self.path}'",
                code="identity_file",
            )
        content = os.pread(descriptor, _SIZE_LIMIT, 0)
        try:
            document = json.loads(content)
            if document["kind"] != self._KIND or document["version"] != 1:
                raise ValueError("another kind of file")
            key = PrivateKey.from_seed(bytes.fromhex(document["seed"]))
            if document["peer_id"] != key.peer_id:
                raise ValueError("peer id and key do not belong together")
        except (ValueError, KeyError, TypeError, RecursionError, IdentityError) as error:
            raise IdentityError(
                f"The file '{self.path}' holds no usable pgpeer {self._NAME}.",
                remedy=f"Restore it from a backup, or name another file{self._BY_OPTION}.",
                code="identity_file",
            ) from error
        return key

    def _missing(self) -> IdentityError:
        return IdentityError(
            f"There is no {self._NAME} file '{self.path}'.",
            remedy=self._ORIGIN,
            code="identity_file",
        )

    def _unreadable(self, error: OSError) -> IdentityError:
        return IdentityError(
            f"The {self._NAME} file '{self.path}' cannot be read: {error.strerror}.",
            remedy="Run as the user who owns it.",
            code="identity_file",
        )


class OwnerFile(IdentityFile):
    """The file that holds the key of an owner of devices. No worker uses it; keep it offline.

    It is of another kind, so that neither is ever taken for the other.
    """

    __slots__ = ()

    _KIND: ClassVar[str] = "pgpeer owner"
    _NAME: ClassVar[str] = "owner"
    _BY_OPTION: ClassVar[str] = ""
    _ORIGIN: ClassVar[str] = "Make one: pgpeer owner create FILE, once for all your devices."


class HeldIdentity:
    """A key that no other worker can use while this object is open."""

    __slots__ = ("_descriptor", "key", "ledger")

    def __init__(self, key: PrivateKey, ledger: SignatureLedger, descriptor: int) -> None:
        self.key = key
        self.ledger = ledger
        self._descriptor = descriptor

    def sign_once(self, domain: str, entries: Sequence[LedgerEntry]) -> list[bytes]:
        """Record the commits durably, then sign their digests: one 64-byte signature an entry, in order.

        Raises:
            IdentityError: the ledger refused; nothing was signed.
        """
        self.ledger.record_all(entries)
        return [self.key.sign(domain, entry.digest) for entry in entries]

    def close(self) -> None:
        """Give the key back; closing twice does nothing."""
        self.ledger.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
