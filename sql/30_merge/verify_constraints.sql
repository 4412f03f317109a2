-- A merge runs with triggers off, so foreign keys and deferrable unique constraints are checked here, for the rows that it
-- wrote. Parents are locked FOR KEY SHARE as PostgreSQL's own checks do, so that no user's delete can slip through.

CREATE OR REPLACE FUNCTION peer_internal.raise_violation(constraint_oid oid, keys text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    k record;
BEGIN
    SELECT c.conname, c.conrelid::regclass AS relation, c.contype INTO STRICT k FROM pg_constraint AS c WHERE c.oid = constraint_oid;
    RAISE EXCEPTION 'the merged rows of % would violate constraint %', k.relation, quote_ident(k.conname)
        USING ERRCODE = CASE k.contype WHEN 'f' THEN 'foreign_key_violation' ELSE 'unique_violation' END, DETAIL = format('First row: %s.', keys);
END
$$;
COMMENT ON FUNCTION peer_internal.raise_violation(oid, text) IS 'Raises the violation of a constraint by merged rows.';

CREATE OR REPLACE FUNCTION peer_internal.constraint_columns(relation oid, numbers smallint[], template text, separator text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format(template, quote_ident(a.attname), n.n), separator ORDER BY n.n)
      FROM unnest(numbers) WITH ORDINALITY AS n(attnum, n) JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = n.attnum
$$;
COMMENT ON FUNCTION peer_internal.constraint_columns(oid, smallint[], text, text) IS 'Columns of a constraint through a format() template: %1$s quoted name, %2$s position.';

CREATE OR REPLACE FUNCTION peer_internal.column_pairs(a oid, a_numbers smallint[], b oid, b_numbers smallint[], template text, separator text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format(template, quote_ident(x.attname), quote_ident(y.attname)), separator ORDER BY n.n)
      FROM unnest(a_numbers, b_numbers) WITH ORDINALITY AS n(a_number, b_number, n)
      JOIN pg_attribute AS x ON x.attrelid = a AND x.attnum = n.a_number
      JOIN pg_attribute AS y ON y.attrelid = b AND y.attnum = n.b_number
$$;
COMMENT ON FUNCTION peer_internal.column_pairs(oid, smallint[], oid, smallint[], text, text) IS 'Columns of the two sides of a foreign key through a format() template: %1$s referencing, %2$s referenced.';

CREATE OR REPLACE FUNCTION peer_internal.verify_written(relation_id uuid, lines text[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
    target regclass;
    k record;
    offender text;
    key_text text := peer_internal.key_text_expression(verify_written.relation_id, 't.%1$s');
    source text := peer_internal.line_source(verify_written.relation_id, '{}');
    same_key text := peer_internal.key_list(verify_written.relation_id, 't.%1$s = s.%1$s', ' AND ');
BEGIN
    IF lines = '{}' THEN
        RETURN;
    END IF;
    SELECT r.relation INTO STRICT target FROM peer_internal.relation AS r WHERE r.relation_id = verify_written.relation_id;
    FOR k IN SELECT c.* FROM pg_constraint AS c WHERE c.conrelid = target AND (c.contype = 'f' OR (c.contype = 'u' AND c.condeferrable)) ORDER BY c.conname COLLATE "C" LOOP
        IF k.contype = 'f' THEN
            EXECUTE format('SELECT %s FROM %s AS t JOIN %s AS s ON %s WHERE %s AND NOT EXISTS (SELECT FROM %s AS p WHERE %s FOR KEY SHARE OF p) LIMIT 1',
                key_text, target, source, same_key,
                peer_internal.constraint_columns(k.conrelid, k.conkey, 't.%1$s IS NOT NULL', ' AND '),
                k.confrelid::regclass,
                peer_internal.column_pairs(k.conrelid, k.conkey, k.confrelid, k.confkey, 'p.%2$s = t.%1$s', ' AND ')) INTO offender USING lines;
        ELSE
            EXECUTE format('SELECT %s FROM %s AS t JOIN %s AS s ON %s WHERE EXISTS (SELECT FROM %s AS rival WHERE %s AND rival.ctid <> t.ctid) LIMIT 1',
                key_text, target, source, same_key, target,
                peer_internal.constraint_columns(k.conrelid, k.conkey, 'rival.%1$s = t.%1$s', ' AND ')) INTO offender USING lines;
        END IF;
        IF offender IS NOT NULL THEN
            PERFORM peer_internal.raise_violation(k.oid, offender);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.verify_written(uuid, text[]) IS 'Checks the foreign keys and deferrable unique constraints of merged rows.';

CREATE OR REPLACE FUNCTION peer_internal.verify_referenced(relation_id uuid, deleted text[], updated_columns uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
    target regclass;
    k record;
    orphan text;
    is_by_key boolean;
    child_filter text;
BEGIN
    SELECT r.relation INTO STRICT target FROM peer_internal.relation AS r WHERE r.relation_id = verify_referenced.relation_id;
    FOR k IN SELECT c.* FROM pg_constraint AS c WHERE c.confrelid = target AND c.contype = 'f' ORDER BY c.conrelid, c.conname COLLATE "C" LOOP
        is_by_key := (SELECT bool_and(coalesce(x.is_key, false)) AND count(*) = (SELECT r.key_count FROM peer_internal.relation AS r WHERE r.relation_id = verify_referenced.relation_id)
                        FROM unnest(k.confkey) AS n(attnum) JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = n.attnum
                        LEFT JOIN peer_internal.relation_column AS x ON x.relation_id = verify_referenced.relation_id AND x.name = a.attname);
        IF is_by_key THEN
            CONTINUE WHEN deleted = '{}';
            child_filter := format('(%s) IN (SELECT %s FROM %s AS s)',
                peer_internal.constraint_columns(k.conrelid, k.conkey, 'c.%1$s', ', '),
                peer_internal.constraint_columns(k.confrelid, k.confkey, 's.%1$s', ', '),
                peer_internal.line_source(verify_referenced.relation_id, '{}'));
        ELSE
            -- the old values of a unique key that is not the primary key are gone: look at every child
            CONTINUE WHEN deleted = '{}' AND NOT EXISTS (
                SELECT FROM unnest(k.confkey) AS n(attnum) JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = n.attnum
                  JOIN peer_internal.relation_column AS x ON x.relation_id = verify_referenced.relation_id AND x.name = a.attname
                 WHERE x.column_id = ANY (updated_columns));
            child_filter := '$1 IS NOT NULL';
        END IF;
        EXECUTE format('SELECT c::text FROM %s AS c WHERE %s AND %s AND NOT EXISTS (SELECT FROM %s AS p WHERE %s) LIMIT 1',
            k.conrelid::regclass, child_filter,
            peer_internal.constraint_columns(k.conrelid, k.conkey, 'c.%1$s IS NOT NULL', ' AND '),
            target, peer_internal.column_pairs(k.conrelid, k.conkey, k.confrelid, k.confkey, 'p.%2$s = c.%1$s', ' AND ')) INTO orphan USING deleted;
        IF orphan IS NOT NULL THEN
            PERFORM peer_internal.raise_violation(k.oid, orphan);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.verify_referenced(uuid, text[], uuid[]) IS 'Checks that no row references a row that the merge deleted, or a value that it changed.';

CREATE OR REPLACE FUNCTION peer_internal.verify_commit(commit_no bigint, contested jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part record;
BEGIN
    -- only now, when every relation of the commit has been written: a parent may come, or go, with its children
    FOR part IN
        SELECT s.relation_id, s.op, s.column_ids, s.data FROM peer_internal.section AS s JOIN peer_internal.relation AS r USING (relation_id)
         WHERE s.commit_no = verify_commit.commit_no AND s.op <> 'SCHEMA' AND r.is_tracked ORDER BY s.section_no
    LOOP
        IF part.op = 'DELETE' THEN
            PERFORM peer_internal.verify_referenced(part.relation_id, peer_internal.section_lines(part.data), '{}');
        ELSE
            PERFORM peer_internal.verify_written(part.relation_id, peer_internal.section_lines(part.data));
            IF part.op = 'UPDATE' THEN
                PERFORM peer_internal.verify_referenced(part.relation_id, '{}', part.column_ids);
            END IF;
        END IF;
    END LOOP;
    -- contested rows took the state of all commits: any of them may have gone, or changed in any column
    FOR part IN SELECT x.key::uuid AS relation_id, ARRAY(SELECT jsonb_array_elements_text(x.value)) AS keys FROM jsonb_each(contested) AS x LOOP
        PERFORM peer_internal.verify_written(part.relation_id, part.keys);
        PERFORM peer_internal.verify_referenced(part.relation_id, part.keys, peer_internal.all_columns(part.relation_id));
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.verify_commit(bigint, jsonb) IS 'Checks the constraints that a merge with triggers off does not check by itself. contested: relation id → keys.';
