-- What the merge remembers: conflicts, and what uncommitted work has not seen. Runs once.

CREATE TABLE peer_internal.conflict (
    conflict_id text NOT NULL,
    bundle_id uuid NOT NULL,
    relation_id uuid NOT NULL,
    key_text text COLLATE "C" NOT NULL,
    column_id uuid,
    kind text NOT NULL,
    lesser_commit bytea NOT NULL,
    greater_commit bytea NOT NULL,
    winning_commit bytea NOT NULL,
    losing_commit bytea NOT NULL,
    base_value jsonb,
    winning_value jsonb,
    losing_value jsonb,
    state text NOT NULL DEFAULT 'settled',
    detected_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT conflict_pkey PRIMARY KEY (conflict_id),
    CONSTRAINT conflict_bundle_id_fkey FOREIGN KEY (bundle_id) REFERENCES peer_internal.bundle (bundle_id) ON DELETE CASCADE,
    CONSTRAINT conflict_state_check CHECK (state IN ('settled', 'open', 'resolved'))
);
-- a prefix, because a whole key text may be longer than an index entry can be
CREATE INDEX conflict_relation_id_key_text_idx ON peer_internal.conflict (relation_id, pg_catalog.left(key_text, 256));
CREATE INDEX conflict_bundle_id_idx ON peer_internal.conflict (bundle_id);
COMMENT ON TABLE peer_internal.conflict IS 'Concurrent writes of different values to one cell, or to the existence of one row. A function of the set of merged commits.';
COMMENT ON COLUMN peer_internal.conflict.column_id IS 'NULL: the conflict is about the existence of the row.';

CREATE TABLE peer_internal.unseen (
    relation_id uuid NOT NULL,
    key_text text COLLATE "C" NOT NULL,
    column_id uuid,
    digest bytea NOT NULL,
    CONSTRAINT unseen_relation_id_fkey FOREIGN KEY (relation_id) REFERENCES peer_internal.relation (relation_id) ON DELETE CASCADE
);
-- a hash, because a whole key text may be longer than an index entry can be
CREATE UNIQUE INDEX unseen_relation_id_key_text_column_id_digest_key
    ON peer_internal.unseen (relation_id, pg_catalog.md5(key_text), coalesce(column_id, relation_id), digest);
COMMENT ON TABLE peer_internal.unseen IS 'Manual mode: merged commits that met uncommitted work in a row (column_id NULL) or cell here (merge rule 12).';

CREATE TYPE peer_internal.placed_row AS (key_text text, fields text[], dirty_op text, dirty_mask bit varying);
COMMENT ON TYPE peer_internal.placed_row IS 'A row on its way to the state of all merged commits (fields NULL: it does not exist), and the uncommitted change that stands there.';
