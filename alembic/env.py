"""Runs migrations inside the transaction of pgpeer.store.install; not for the `alembic` command."""

from __future__ import annotations

from alembic import context
from pgpeer.store.revisions import VERSION_SCHEMA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema=VERSION_SCHEMA,
    transactional_ddl=True,
)
context.run_migrations()
