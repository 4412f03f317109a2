"""The worker's door to PostgreSQL: single connections with asyncpg, whose refusals are our own errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg
import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgpeer.errors import ConfigError, StoreError
from pgpeer.store.session import settings

CONNECT_SECONDS: Final = 10
CLOSE_SECONDS: Final = 1.0

LOST_STATES: Final = frozenset({"57P01", "57P02", "57P03"})
"""The server is shutting down, has crashed or is starting."""

YIELDED_STATES: Final = frozenset({"55P03", "40P01", "40001"})
"""Lock not available, deadlock, serialization failure: the same call can succeed in a moment."""

_UNDERSTOOD: Final = frozenset(
    {"host", "port", "dbname", "user", "password", "passfile", "service", "target_session_attrs"}
    | {"sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"}
    | {"ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"}
)
"""What libpq and asyncpg both take; the rest of libpq's words is left out or passed as a server setting."""

Row = asyncpg.Record
Notified = Callable[[str, int, str], None]
"""Called with the channel, the sender's backend process id, and the payload."""


class Connection:
    """One connection, which runs one statement at a time: concurrent calls wait for each other.

    Every call raises StoreError; with code `unreachable` when the connection is lost, after which all fail.
    A call that is cancelled is cancelled at the server too, and has had no effect unless it had just ended.
    """

    def __init__(self, raw: asyncpg.Connection) -> None:
        self._raw = raw
        self._turn = asyncio.Lock()
        self.lost = asyncio.Event()
        """Set when the connection is over, also after `close`."""
        self.pid: int = raw.get_server_pid()
        raw.add_termination_listener(lambda _: self.lost.set())

    @classmethod
    async def open(cls, dsn: str) -> Connection:
        """Connect to a database, given as libpq takes it.

        Raises:
            ConfigError: the address cannot be read.
            StoreError: the database cannot be reached (code `unreachable`).
        """
        try:
            raw = await asyncpg.connect(
                _address(dsn),
                timeout=CONNECT_SECONDS,
                server_settings={"application_name": "pgpeer worker"},
            )
            try:
                await raw.execute(settings(worker=True))
            except BaseException:
                raw.terminate()
                raise
        except (
            OSError,
            TimeoutError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ) as error:
            raise unreachable(_sentence(error)) from error
        except ValueError as error:
            raise ConfigError(
                f"The address of the database cannot be read: {error}.", remedy="Check --dsn or PGPEER_DSN."
            ) from error
        return cls(raw)

    async def fetch(self, query: str, *arguments: object) -> list[Row]:
        """Run a statement in a transaction of its own and give its rows."""
        rows: list[Row] = await self._run(lambda: self._raw.fetch(query, *arguments))
        return rows

    async def value(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - the statement decides
        """Run a statement and give the first column of its first row, None without one."""
        return await self._run(lambda: self._raw.fetchval(query, *arguments))

    async def listen(self, channels: Sequence[str], notified: Notified) -> None:
        """Call `notified` whenever somebody notifies one of the channels."""

        def call(_: object, pid: int, channel: str, payload: object) -> None:
            notified(channel, pid, str(payload))

        for channel in channels:
            await self._run(lambda channel=channel: self._raw.add_listener(channel, call))

    async def _run(self, call: Callable[..., Awaitable[Any]]) -> Any:  # noqa: ANN401 - the statement decides
        async with self._turn:
            try:
                with refusals():
                    return await call()
            except StoreError as error:
                # a connection in doubt is not used again: asyncpg may still wait for the server's last word
                if error.code == "unreachable":
                    self._raw.terminate()
                    self.lost.set()
                raise

    async def close(self) -> None:
        """Close the connection, which rolls back what runs and releases its locks. Never fails."""
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._raw.close(timeout=CLOSE_SECONDS)
        self.lost.set()


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what asyncpg raises inside the block into StoreError."""
    try:
        yield
    except asyncpg.PostgresConnectionError as error:
        raise unreachable(_sentence(error)) from error
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state in LOST_STATES:
            raise unreachable(_sentence(error)) from error
        detail = getattr(error, "detail", None)
        raise StoreError(
            _sentence(error) + (f" ({detail})" if detail else ""),
            sqlstate=state,
            remedy=getattr(error, "hint", None) or "",
            retryable=state in YIELDED_STATES,
        ) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        raise unreachable(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    """Give what happened, alone: the text of an error of asyncpg holds DETAIL and HINT as well."""
    is_theirs = isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError))
    return str(error.args[0] if is_theirs and error.args else error) or type(error).__name__


def unreachable(reason: str) -> StoreError:
    """Make the error for a database that cannot be reached or whose connection is lost."""
    return StoreError(
        f"The database cannot be reached: {reason}",
        remedy="Check --dsn or PGPEER_DSN, and that the server runs and lets this role in.",
        code="unreachable",
        retryable=True,
    )


def _address(dsn: str) -> str:
    """Write a libpq address as the URL that asyncpg takes."""
    try:
        words = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    except psycopg.Error as error:
        raise ValueError(str(error).strip()) from error
    if "hostaddr" in words:
        words["host"] = words["hostaddr"]
    understood = {name: value for name, value in words.items() if name in _UNDERSTOOD}
    if "options" in words:
        understood["options"] = words["options"]
    return "postgresql://?" + urlencode(understood)
