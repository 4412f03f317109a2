-- A relation enters a bundle: by peer.track here, or by a schema section from a peer.

CREATE OR REPLACE FUNCTION peer_internal.derived_uuid(name text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT encode(substr(sha256(convert_to(name, 'UTF8')), 1, 16), 'hex')::uuid
$$;
COMMENT ON FUNCTION peer_internal.derived_uuid(text) IS 'A uuid derived from a name: two peers that add the same thing at the same time mean the same id.';

CREATE OR REPLACE FUNCTION peer_internal.schema_document(relation_id uuid, description jsonb) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('relation', relation_id, 'table', description, 'columns', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('name', c.item ->> 'name',
                   'id', peer_internal.derived_uuid(relation_id || '|' || (c.item ->> 'name') || '|' || (c.item -> 'type')::text)) ORDER BY c.n), '[]')
          FROM jsonb_array_elements(description -> 'columns') WITH ORDINALITY AS c(item, n)))
$$;
COMMENT ON FUNCTION peer_internal.schema_document(uuid, jsonb) IS 'What a schema section carries: the relation id, its structured description and the ids of its columns.';

CREATE OR REPLACE FUNCTION peer_internal.register_relation(bundle_id uuid, document jsonb, target regclass) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_id uuid := (document ->> 'relation')::uuid;
    r peer_internal.relation;
BEGIN
    INSERT INTO peer_internal.relation (relation_id, bundle_id, relation, schema_name, table_name, key_count, mask_bits, description, fold_sql, seal_sql)
    SELECT new_id, register_relation.bundle_id, target, n.nspname, c.relname, cardinality(i.indkey::int2[]),
           64, document, '', ''
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
     WHERE c.oid = target;
    INSERT INTO peer_internal.relation_column (relation_id, column_id, name, type, ordinal, is_key)
    SELECT new_id, (d.item ->> 'id')::uuid, a.attname, a.atttypid,
           row_number() OVER (PARTITION BY k.position IS NOT NULL ORDER BY k.position, a.attnum) - 1, k.position IS NOT NULL
      FROM pg_attribute AS a
      JOIN jsonb_array_elements(document -> 'columns') AS d(item) ON d.item ->> 'name' = a.attname
      LEFT JOIN (SELECT x.attnum, x.position FROM pg_index AS i, unnest(i.indkey::int2[]) WITH ORDINALITY AS x(attnum, position)
                  WHERE i.indrelid = target AND i.indisprimary) AS k ON k.attnum = a.attnum
     WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = '' OR k.position IS NOT NULL);
    -- one word per 64 columns, the same words that peer_internal.mask_expression makes
    UPDATE peer_internal.relation AS x
       SET mask_bits = 64 * (SELECT greatest(1, ceil(count(*) / 64.0)::int) FROM peer_internal.relation_column AS c WHERE c.relation_id = new_id AND NOT c.is_key)
     WHERE x.relation_id = new_id;
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = new_id;
    UPDATE peer_internal.relation AS x SET fold_sql = peer_internal.fold_statement(r), seal_sql = peer_internal.section_statement(r) WHERE x.relation_id = new_id;
    PERFORM peer_internal.install_triggers(new_id);
    PERFORM peer_internal.journal_existing_rows(new_id);
END
$$;
COMMENT ON FUNCTION peer_internal.register_relation(uuid, jsonb, regclass) IS 'Makes a table part of a bundle: metadata, capture, and its existing rows as uncommitted inserts. Takes SHARE ROW EXCLUSIVE on the table.';

CREATE OR REPLACE FUNCTION peer_internal.journal_existing_rows(relation_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
    r peer_internal.relation;
BEGIN
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = journal_existing_rows.relation_id;
    EXECUTE format('INSERT INTO peer_internal.journal_%s (op, mask, keys) SELECT ''I'', repeat(''0'', %s)::bit(%s), array_agg(o.key)
                      FROM (SELECT %s AS key, row_number() OVER () / 8192 AS chunk FROM %s AS t) AS o GROUP BY o.chunk',
                   r.relation_number, r.mask_bits, r.mask_bits, peer_internal.key_value(r, 't'), r.relation);
END
$$;
COMMENT ON FUNCTION peer_internal.journal_existing_rows(uuid) IS 'Journals the rows that a table had before it was tracked.';

CREATE OR REPLACE FUNCTION peer_internal.adopt_relation(bundle_id uuid, relation_id uuid, document jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known peer_internal.relation;
    target regclass;
    difference text;
    no record;
    description jsonb := document -> 'table';
BEGIN
    IF jsonb_typeof(description) IS DISTINCT FROM 'object' OR document ->> 'relation' IS DISTINCT FROM relation_id::text
       OR jsonb_typeof(document -> 'columns') IS DISTINCT FROM 'array' OR jsonb_typeof(description -> 'name') IS DISTINCT FROM 'string'
       OR jsonb_typeof(description -> 'schema') IS DISTINCT FROM 'string' THEN
        RAISE EXCEPTION 'a schema section is malformed' USING ERRCODE = 'PGS90', HINT = 'The peer that made it is broken or hostile. Nothing was changed.';
    END IF;
    SELECT r.* INTO known FROM peer_internal.relation AS r WHERE r.relation_id = adopt_relation.relation_id;
    IF FOUND THEN
        IF known.bundle_id <> adopt_relation.bundle_id THEN
            RAISE EXCEPTION 'a schema section names a relation of another bundle' USING ERRCODE = 'PGS90', HINT = 'The peer that made it is broken or hostile. Nothing was changed.';
        END IF;
        IF NOT known.is_tracked THEN
            RETURN;
        END IF;
        target := known.relation;
    ELSE
        target := to_regclass(format('%I.%I', description ->> 'schema', description ->> 'name'));
    END IF;
    IF target IS NOT NULL THEN
        difference := peer_internal.schema_difference(target, description);
        IF difference IS NOT NULL THEN
            RAISE EXCEPTION 'table % differs from the one that the peer sends', target USING ERRCODE = 'PGS91', DETAIL = difference,
                HINT = 'Make the tables equal (ALTER TABLE), or rename or drop the local one; the commit is then merged by itself.';
        END IF;
    END IF;
    IF known.relation_id IS NOT NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM peer_internal.relation AS r WHERE r.relation = target AND r.is_tracked) THEN
        RAISE EXCEPTION 'table % is tracked in another bundle here', target USING ERRCODE = 'PGT10', HINT = 'SELECT peer.untrack(…) it there first, or keep one of the two bundles.';
    END IF;
    IF target IS NULL THEN
        target := peer_internal.create_relation(description);
    END IF;
    SELECT x.* INTO no FROM peer_internal.refusal(target) AS x LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '%', no.message USING ERRCODE = no.sqlstate, DETAIL = no.detail, HINT = no.hint;
    END IF;
    PERFORM peer_internal.register_relation(adopt_relation.bundle_id, document, target);
END
$$;
COMMENT ON FUNCTION peer_internal.adopt_relation(uuid, uuid, jsonb) IS 'Takes up a relation from a peer''s schema section: creates the table, or checks that the one that stands here is equal.';

CREATE OR REPLACE FUNCTION peer_internal.adopt_bundle(bundle_id uuid, name text, commit_mode text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM peer_internal.bundle AS b WHERE b.name = adopt_bundle.name AND b.bundle_id <> adopt_bundle.bundle_id) THEN
        RAISE EXCEPTION 'another bundle named % stands here already', quote_literal(name) USING ERRCODE = 'PGB02',
            HINT = 'Leave or rename one of the two.';
    END IF;
    INSERT INTO peer_internal.bundle (bundle_id, name, commit_mode) VALUES (adopt_bundle.bundle_id, adopt_bundle.name, adopt_bundle.commit_mode)
    ON CONFLICT ON CONSTRAINT bundle_pkey DO NOTHING;
END
$$;
COMMENT ON FUNCTION peer_internal.adopt_bundle(uuid, text, text) IS 'Makes room for a bundle that is joined. Known already: nothing changes.';
