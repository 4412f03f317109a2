"""What a session of pgpeer sets for itself, whatever was set for the role or the database."""

from __future__ import annotations

from typing import Final

PATIENT: Final = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
}
"""Installing and merging may take longer than what other programs do, and must be able to write."""

_NEWER: Final = (
    "SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'"
)
"""PostgreSQL 17 and newer."""


def settings(*, worker: bool) -> str:
    """Statements that make the settings, in one text.

    By SET, not at start-up: a pooler such as PgBouncer refuses start-up parameters that it does not know.

    Args:
        worker: a session of the worker, which names everything with its schema and has time-outs of its own.
            Other sessions keep `search_path`, by which people name their tables, and `lock_timeout`.
    """
    chosen = [f"SET {name} = {value!r}" for name, value in PATIENT.items()]
    if worker:
        chosen += ["SET jit = off", "SET lock_timeout = 0", "SET search_path = pg_catalog, pg_temp"]
    return "; ".join([*chosen, _NEWER])
