-- Bundles and the relations tracked in them. Runs once. Each tracked relation also gets, when it is tracked, a key type
-- (composite keys), a journal table and four trigger functions, all named by its relation_number.

CREATE TABLE peer_internal.bundle (
    bundle_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    bundle_number int GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    commit_mode text NOT NULL DEFAULT 'auto',
    last_hlc bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT bundle_pkey PRIMARY KEY (bundle_id),
    CONSTRAINT bundle_bundle_number_key UNIQUE (bundle_number),
    CONSTRAINT bundle_name_key UNIQUE (name),
    CONSTRAINT bundle_name_check CHECK (pg_catalog.length(name) BETWEEN 1 AND 200),
    CONSTRAINT bundle_commit_mode_check CHECK (commit_mode IN ('auto', 'manual'))
);
COMMENT ON TABLE peer_internal.bundle IS 'A named set of tables that is versioned and exchanged as one.';
COMMENT ON COLUMN peer_internal.bundle.bundle_number IS 'Local: the second half of the advisory lock that serialises seal and merge.';
COMMENT ON COLUMN peer_internal.bundle.last_hlc IS 'The greatest hybrid logical clock value seen; the next commit is dated after it.';

CREATE TABLE peer_internal.relation (
    relation_id uuid NOT NULL,
    relation_number int GENERATED ALWAYS AS IDENTITY,
    bundle_id uuid NOT NULL,
    relation regclass,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    key_count int NOT NULL,
    mask_bits int NOT NULL,
    is_tracked boolean NOT NULL DEFAULT true,
    description jsonb NOT NULL,
    fold_sql text NOT NULL,
    seal_sql text NOT NULL,
    shape text,
    suspended text,
    CONSTRAINT relation_pkey PRIMARY KEY (relation_id),
    CONSTRAINT relation_relation_number_key UNIQUE (relation_number),
    CONSTRAINT relation_bundle_id_fkey FOREIGN KEY (bundle_id) REFERENCES peer_internal.bundle (bundle_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX relation_relation_key ON peer_internal.relation (relation) WHERE is_tracked;
CREATE INDEX relation_bundle_id_idx ON peer_internal.relation (bundle_id);
COMMENT ON TABLE peer_internal.relation IS 'A table of a bundle. The id is derived from bundle and name, so that two peers that track the same table mean the same relation.';
COMMENT ON COLUMN peer_internal.relation.mask_bits IS 'Width of the column masks in the journal: a multiple of 64.';
COMMENT ON COLUMN peer_internal.relation.description IS 'The structured schema description that the last schema section carried.';
COMMENT ON COLUMN peer_internal.relation.shape IS 'The mark of the table (peer_internal.table_shape) when capture was last brought in line with it.';
COMMENT ON COLUMN peer_internal.relation.suspended IS 'Why the table is neither captured nor merged into: it was changed so that its rows are no longer those of the bundle.';
COMMENT ON COLUMN peer_internal.relation.fold_sql IS 'Generated: the WITH parts that turn taken journal rows (taken_N) into one change per key (change_N).';
COMMENT ON COLUMN peer_internal.relation.seal_sql IS 'Generated: the WITH parts that turn changes (change_N) into sections (section_N).';

CREATE TABLE peer_internal.relation_column (
    relation_id uuid NOT NULL,
    column_id uuid NOT NULL,
    name text NOT NULL,
    type regtype NOT NULL,
    ordinal int NOT NULL,
    is_key boolean NOT NULL,
    attnum smallint,
    modifier int,
    CONSTRAINT relation_column_pkey PRIMARY KEY (relation_id, column_id),
    CONSTRAINT relation_column_name_key UNIQUE (relation_id, name),
    CONSTRAINT relation_column_ordinal_key UNIQUE (relation_id, is_key, ordinal),
    CONSTRAINT relation_column_relation_id_fkey FOREIGN KEY (relation_id) REFERENCES peer_internal.relation (relation_id) ON DELETE CASCADE
);
COMMENT ON TABLE peer_internal.relation_column IS 'The columns of a tracked relation that travel: keys in key order, the others (generated ones left out) in table order.';
COMMENT ON COLUMN peer_internal.relation_column.attnum IS 'Which column of the table here it is, whatever its name.';
COMMENT ON COLUMN peer_internal.relation_column.ordinal IS 'From 0, counted apart for key columns and for the others; for the others it is the bit of the journal mask.';

CREATE TABLE peer_internal.relation_part (
    relation_id uuid NOT NULL,
    part regclass NOT NULL,
    CONSTRAINT relation_part_pkey PRIMARY KEY (relation_id, part),
    CONSTRAINT relation_part_relation_id_fkey FOREIGN KEY (relation_id) REFERENCES peer_internal.relation (relation_id) ON DELETE CASCADE
);
COMMENT ON TABLE peer_internal.relation_part IS 'The partitions of tracked partitioned tables, of every level and the table itself, as they were when capture was last brought in line with them. Nothing for ordinary tables.';

CREATE TABLE peer_internal.missed_write (
    missed_write_id bigint GENERATED ALWAYS AS IDENTITY,
    relation_id uuid NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT missed_write_pkey PRIMARY KEY (missed_write_id),
    CONSTRAINT missed_write_relation_id_fkey FOREIGN KEY (relation_id) REFERENCES peer_internal.relation (relation_id) ON DELETE CASCADE
);
CREATE INDEX missed_write_relation_id_idx ON peer_internal.missed_write (relation_id);
COMMENT ON TABLE peer_internal.missed_write IS 'A table was written while its triggers did not fit it: its rows are compared with the merged commits once they do.';
