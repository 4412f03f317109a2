"""A row that is put into peer.config takes the place of the one there; the text is in the SQL file beside this one."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from pgpeer.store.transaction import run_file

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_file(op.get_bind().connection.driver_connection, Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
