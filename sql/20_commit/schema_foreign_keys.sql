-- Foreign keys of a described table. Tables arrive one after the other and may refer to each other in a circle, so keys are made
-- apart from the tables, each as soon as the table that it refers to exists.

CREATE OR REPLACE FUNCTION peer_internal.described_relation(description jsonb) RETURNS regclass
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = description ->> 'schema' AND c.relname = description ->> 'name'
$$;
COMMENT ON FUNCTION peer_internal.described_relation(jsonb) IS 'The relation of the described schema and name in this database, or NULL.';

CREATE OR REPLACE FUNCTION peer_internal.foreign_key_sql(f jsonb, place text) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF f ? 'on_delete_columns' AND current_setting('server_version_num')::int < 150000 THEN
        PERFORM peer_internal.refuse_description('PGS07', place, 'ON DELETE SET NULL of some columns needs PostgreSQL 15 or newer',
                                                 'Upgrade this PostgreSQL, or change the foreign key on the peer.');
    END IF;
    RETURN format('CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %I.%I (%s) MATCH %s ON UPDATE %s ON DELETE %s%s%s',
        f ->> 'name', peer_internal.column_names_sql(f -> 'columns'), f -> 'references' ->> 'schema', f -> 'references' ->> 'name',
        peer_internal.column_names_sql(f -> 'references' -> 'columns'), upper(f ->> 'match'), upper(f ->> 'on_update'),
        upper(f ->> 'on_delete'), ' (' || peer_internal.column_names_sql(nullif(f -> 'on_delete_columns', '[]')) || ')',
        peer_internal.deferrable_sql(f));
END
$$;
COMMENT ON FUNCTION peer_internal.foreign_key_sql(jsonb, text) IS 'SQL text of a described foreign key.';

CREATE OR REPLACE FUNCTION peer_internal.create_missing_foreign_keys(description jsonb) RETURNS int
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation regclass;
    present jsonb;
    f record;
    place text;
    created int := 0;
BEGIN
    PERFORM peer_internal.check_description(description);
    relation := peer_internal.described_relation(description);
    IF relation IS NULL THEN
        PERFORM peer_internal.refuse_description('PGS05', 'name',
            format('the table %I.%I does not exist', description ->> 'schema', description ->> 'name'), 'Create the table first.');
    END IF;
    present := peer_internal.describe_foreign_keys(relation);
    FOR f IN SELECT x.item, x.number FROM jsonb_array_elements(description -> 'foreign_keys') WITH ORDINALITY AS x(item, number) LOOP
        place := format('foreign_keys[%s]', f.number);
        -- the same key under another name is the same key
        IF NOT EXISTS (SELECT FROM jsonb_array_elements(present -> 'items') AS p(item) WHERE p.item - 'name' = f.item - 'name')
           AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = relation AND c.conname = f.item ->> 'name') THEN
            CONTINUE WHEN peer_internal.described_relation(f.item -> 'references') IS NULL;
            BEGIN
                -- NOT VALID: rows that came before the key may wait for the rows they refer to; a partitioned table knows no such state
                EXECUTE format('ALTER TABLE %I.%I ADD %s%s', description ->> 'schema', description ->> 'name', peer_internal.foreign_key_sql(f.item, place),
                               CASE WHEN peer_internal.is_partitioned(relation) THEN '' ELSE ' NOT VALID' END);
            EXCEPTION WHEN foreign_key_violation THEN
                CONTINUE;   -- only of a partitioned table: the next call tries again
            WHEN undefined_column OR invalid_foreign_key OR datatype_mismatch OR wrong_object_type
                        OR invalid_table_definition OR feature_not_supported THEN
                PERFORM peer_internal.refuse_description('PGS08', place,
                    format('the foreign key %I does not fit the tables here: %s', f.item ->> 'name', SQLERRM),
                    'Make the referenced table as it is on the peer, then join again.');
            END;
            created := created + 1;
        END IF;
        IF EXISTS (SELECT FROM pg_constraint AS c
                    WHERE c.conrelid = relation AND c.conname = f.item ->> 'name' AND c.contype = 'f' AND NOT c.convalidated) THEN
            BEGIN
                EXECUTE format('ALTER TABLE %I.%I VALIDATE CONSTRAINT %I', description ->> 'schema', description ->> 'name', f.item ->> 'name');
            EXCEPTION WHEN foreign_key_violation THEN
                NULL;   -- stays NOT VALID, and holds for new rows; the next call tries again
            END;
        END IF;
    END LOOP;
    RETURN created;
END
$$;
COMMENT ON FUNCTION peer_internal.create_missing_foreign_keys(jsonb) IS
    'Creates the described foreign keys whose referenced tables exist by now and that are not there yet, and gives their number; '
    'call it again after each table. A key is made NOT VALID and then validated: while rows that it needs are missing it stays NOT VALID, '
    'which binds new rows only, and the next call tries again. Locks both tables in SHARE ROW EXCLUSIVE mode for a moment. Raises '
    'PGS01 to PGS03 for a malformed description, PGS05 without the table, PGS08 when the referenced table does not fit.';

REVOKE ALL ON FUNCTION peer_internal.described_relation(jsonb), peer_internal.foreign_key_sql(jsonb, text),
    peer_internal.create_missing_foreign_keys(jsonb) FROM PUBLIC;
