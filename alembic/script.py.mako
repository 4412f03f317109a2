"""${message}"""

from __future__ import annotations

from pathlib import Path

from alembic import op

from pgpeer.store.transaction import run_file

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The text belongs into the SQL file of the same name: the extension and the plain file use it as well.
    run_file(op.get_bind().connection.driver_connection, Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")
