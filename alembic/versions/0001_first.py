"""The first schema: every table file of sql/order.txt, in that order."""

from __future__ import annotations

from alembic import context, op

from pgpeer.store.revisions import VERSION_COMMENT
from pgpeer.store.transaction import run_file

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for path in context.config.attributes["sources"].tables:
        run_file(op.get_bind().connection.driver_connection, path)
    op.execute(VERSION_COMMENT)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
