"""One embedded PostgreSQL server: make its data, start, stop, survive crashes, end with the owner."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pgpeer.config import Settings, server_environment
from pgpeer.embedded.account import Account, unprivileged_account
from pgpeer.embedded.binaries import find_bindir, runnable_binaries
from pgpeer.embedded.guard import Leash, guarded_command
from pgpeer.embedded.pidfile import PidFile
from pgpeer.embedded.sockets import socket_directory, sweep
from pgpeer.errors import EmbeddedError

SUPERUSER: Final = "postgres"
"""The database role that owns an embedded cluster; it may connect through the socket without a password."""

_FIRST_BUILTIN_LOCALE: Final = 17
_THROW_AWAY: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}
# Refusals that pass: after kill -9 of the main process its children need a moment to let go of the shared
# memory, and the guard of the former owner may remove the socket directory in the same moment.
_PASSING: Final = ("is still in use", '.lock": No such file or directory')
_LARGEST_LOG: Final = 10 * 1024 * 1024


class Cluster:
    """A PostgreSQL server on a data directory of its own, reachable through a Unix socket.

    Several clusters can run at once, on the same port number. For a superuser process the server runs as an
    unprivileged account.

    Args:
        data_directory: where the data is; made and initialised at the first start.
        settings: server settings, for example `{"max_connections": "50"}`; they win over the defaults here.
        persistent: False makes a throw-away cluster: fast, not protected against a crash of the machine,
            its data removed when it stops or its owner dies. The data directory must not exist before.
        bindir: the folder of the PostgreSQL programs; by default `find_bindir` chooses.
        port: part of the socket's name; no network port is opened.
        outlives_owner: True lets a persistent server run on when this process ends; `stop_server` stops it.
        environment: settings of this process, by default read from its environment.
    """

    def __init__(
        self,
        data_directory: str | Path,
        *,
        settings: Mapping[str, str] | None = None,
        persistent: bool = True,
        bindir: str | Path | None = None,
        port: int = 5432,
        outlives_owner: bool = False,
        environment: Settings | None = None,
    ) -> None:
        if os.name != "posix":
            raise EmbeddedError(
                "Embedded PostgreSQL needs Unix sockets, which this system lacks.",
                remedy="Use a PostgreSQL server of your own and give its address with --dsn.",
            )
        configured = environment or Settings.read()
        self.data_directory = Path(data_directory).absolute()
        self.persistent = persistent
        self.port = port
        self._settings = dict(settings or {})
        self._outlives_owner = outlives_owner and persistent
        self._socket_root = configured.socket_root
        self._account = unprivileged_account(configured.postgres_user)
        self._binaries = runnable_binaries(
            Path(bindir) if bindir is not None else find_bindir(configured),
            self._account,
            configured.cache_directory,
        )
        self._sockets: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: Leash | None = None
        self._made_here = False

    @property
    def pid(self) -> int:
        """The process id of the running server.

        Raises:
            EmbeddedError: it was not started by this object.
        """
        if self._process is None:
            raise EmbeddedError(
                f"The server on {self.data_directory} is not running.", remedy="Call start()."
            )
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server that this object started still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def version(self) -> int:
        """The major version of PostgreSQL, for example 18."""
        return self._binaries.version

    @property
    def bindir(self) -> Path:
        """The folder of the programs in use; `psql` is there if the installation has it."""
        return self._binaries.directory

    @property
    def account(self) -> Account | None:
        """The account that runs the server; None for the account of this process."""
        return self._account

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self.data_directory / "server.log"

    def dsn(self, database: str = "postgres") -> str:
        """The connection string of a database, for psycopg, asyncpg, SQLAlchemy and psql alike.

        It stays the same across restarts of one data directory.
        """
        sockets = self._sockets or self._make_sockets()
        query = urllib.parse.urlencode({"host": str(sockets), "port": self.port}, safe="/")
        return f"postgresql://{SUPERUSER}@/{urllib.parse.quote(database, safe='')}?{query}"

    def start(self, timeout: float = 60.0) -> Self:
        """Starts the server and waits until it accepts connections.

        A data directory that a crash left behind is recovered; a stale pid file is removed.

        Args:
            timeout: seconds to wait; crash recovery is part of it.

        Raises:
            EmbeddedError: another server uses the data directory, or the server does not start; nothing
                is left running then.
        """
        if self.is_running:
            return self
        self._forget()
        self._initialise()
        self._clear_pid_file()
        sweep(self._socket_root, self._account)
        deadline = time.monotonic() + timeout
        while True:
            self._sockets = self._make_sockets()
            offset = self._open_log_size()
            self._spawn()
            refusal = self._wait_until_ready(deadline)
            if refusal is None:
                return self
            self._forget()
            said = self._log_since(offset)
            if not any(passing in said for passing in _PASSING) or time.monotonic() > deadline:
                end = said[-600:].strip() or "(empty)"
                raise EmbeddedError(
                    f"PostgreSQL on {self.data_directory} did not start: {refusal}",
                    remedy=f"Read {self.log_path}; its end: {end}",
                )
            time.sleep(0.1)

    def stop(self, timeout: float = 30.0) -> None:
        """Stops the server: open transactions are rolled back. A throw-away cluster's data is removed.

        Args:
            timeout: seconds until the server is made to stop at once (and recovers at its next start).
        """
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT if self.persistent else signal.SIGQUIT)
            for harder in (signal.SIGQUIT, signal.SIGKILL):
                try:
                    self._process.wait(timeout)
                    break
                except subprocess.TimeoutExpired:
                    self._process.send_signal(harder)
            self._process.wait()
        self._forget()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None
        if not self.persistent and self._made_here:
            shutil.rmtree(self.data_directory, ignore_errors=True)
            self._made_here = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _make_sockets(self) -> Path:
        return socket_directory(self._socket_root, self.data_directory, self._account, self.port)

    def _spawn_arguments(self) -> dict[str, Any]:
        locale = {"LC_ALL": "C.UTF-8" if sys.platform == "linux" else "C"}
        arguments: dict[str, Any] = {"cwd": "/", "env": server_environment() | locale}
        if self._account is not None:
            arguments |= self._account.spawn_arguments()
        return arguments

    def _initialise(self) -> None:
        """Makes the data directory under another name first: a broken-off initdb leaves nothing half-made."""
        if (self.data_directory / "PG_VERSION").exists():
            self._check_version()
            if not self.persistent and not self._made_here:
                raise EmbeddedError(
                    f"{self.data_directory} holds data already and cannot become a throw-away cluster.",
                    remedy="Choose a folder that does not exist, or open it with persistent=True.",
                )
            return
        parent = self.data_directory.parent
        partial = parent / f".{self.data_directory.name}.{secrets.token_hex(4)}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir(mode=0o700)
            if self._account is not None:
                os.chown(partial, self._account.uid, self._account.gid)
                if not self._account.can("x", partial):
                    raise EmbeddedError(
                        f"The account {self._account.name}, which runs PostgreSQL, cannot enter {parent}.",
                        remedy="Choose a folder whose parents everybody may enter, such as /var/lib/pgpeer.",
                    )
            self._run_initdb(partial)
            partial.rename(self.data_directory)
            self._made_here = True
        except OSError as error:
            if not (self.data_directory / "PG_VERSION").exists():
                raise EmbeddedError(
                    f"The data directory {self.data_directory} cannot be made: {error.strerror or error}.",
                    remedy="Choose an empty or new folder on a disk with room that you may write to.",
                ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _run_initdb(self, directory: Path) -> None:
        command = [str(self._binaries.initdb), "-D", str(directory), "-U", SUPERUSER, "-E", "UTF8"]
        command += ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"]
        if self.version >= _FIRST_BUILTIN_LOCALE:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self.persistent:
            command.append("--no-sync")
        result = subprocess.run(
            command, check=False, capture_output=True, text=True, **self._spawn_arguments()
        )
        if result.returncode != 0:
            raise EmbeddedError(
                f"PostgreSQL could not make {self.data_directory}: {result.stderr.strip()}",
                remedy="Make room on the disk, or choose another folder.",
            )

    def _check_version(self) -> None:
        found = (self.data_directory / "PG_VERSION").read_text().strip()
        if found != str(self.version):
            raise EmbeddedError(
                f"{self.data_directory} is of PostgreSQL {found}, but the programs are {self.version}.",
                remedy=f"Set PGPEER_PG_BIN to the programs of PostgreSQL {found}, or choose another folder.",
            )

    def _clear_pid_file(self) -> None:
        found = PidFile.read(self.data_directory)
        if found is None:
            return
        if found.is_served():
            raise EmbeddedError(
                f"A server with process id {found.pid} already runs on {self.data_directory}.",
                remedy="Use that server, stop it first, or choose another data directory.",
                code="data_directory_in_use",
            )
        found.path.unlink(missing_ok=True)

    def _spawn(self) -> None:
        settings = {
            "listen_addresses": "",
            "port": str(self.port),
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            **({} if self.persistent else _THROW_AWAY),
            **self._settings,
        }
        command = [str(self._binaries.postgres), "-D", str(self.data_directory)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        leash = None
        if not self._outlives_owner:
            leash = Leash.make()
            command = guarded_command(
                command,
                data=self.data_directory,
                sockets=self._make_sockets(),
                doomed=not self.persistent,
            )
        try:
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=leash.child_end if leash is not None else subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **self._spawn_arguments(),
                )
        finally:
            if leash is not None:
                leash.started()
                self._leash = leash

    def _wait_until_ready(self, deadline: float) -> str | None:
        """Returns None when the server is ready, otherwise what went wrong, with the process ended."""
        process = self._process
        assert process is not None
        while True:
            found = PidFile.read(self.data_directory)
            if found is not None and found.pid == process.pid and found.ready:
                return None
            if process.poll() is not None:
                return f"it ended with exit code {process.returncode}."
            if time.monotonic() > deadline:
                process.send_signal(signal.SIGQUIT)
                process.wait()
                return "it was not ready in time."
            time.sleep(0.005)

    def _forget(self) -> None:
        """Drops the ended process and its guard."""
        if self._leash is not None:
            self._leash.dismiss()
            self._leash = None
        self._process = None

    def _open_log_size(self) -> int:
        """The length of the log, which is begun anew when it has grown large."""
        if not self.log_path.exists():
            return 0
        size = self.log_path.stat().st_size
        if size > _LARGEST_LOG:
            self.log_path.rename(self.log_path.with_suffix(".log.1"))
            return 0
        return size

    def _log_since(self, offset: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")


def stop_server(data_directory: str | Path, timeout: float = 30.0) -> bool:
    """Stops the server on a data directory, whoever started it.

    Args:
        data_directory: the data directory.
        timeout: seconds to wait for its end.

    Returns:
        False when no server was running there.

    Raises:
        EmbeddedError: it does not stop in time, or belongs to another account.
    """
    directory = Path(data_directory).absolute()
    found = PidFile.read(directory)
    if found is None or not found.is_served():
        return False
    try:
        os.kill(found.pid, signal.SIGINT)
    except PermissionError as error:
        raise EmbeddedError(
            f"The server on {directory} belongs to another account.", remedy="Stop it as its owner."
        ) from error
    deadline = time.monotonic() + timeout
    while found.is_served():
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"The server on {directory} did not stop in {timeout:g} s.",
                remedy=f"Look at {directory}/server.log.",
            )
        time.sleep(0.02)
    return True
