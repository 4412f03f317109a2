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
        USING ERRCODE = CASE k.contype WHEN 'f' THEN 'foreign_key_violation' WHEN 'x' THEN 'exclusion_violation' ELSE 'unique_violation' END, DETAIL = format('First row: %s.', keys);
END
$$;
COMMENT ON FUNCTION peer_internal.raise_violation(oid, text) IS 'Raises the violation of a constraint by merged rows.';

CREATE OR REPLACE FUNCTION peer_internal.operator_name(operator oid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname) FROM pg_operator AS o JOIN pg_namespace AS n ON n.oid = o.oprnamespace WHERE o.oid = operator_name.operator
$$;
COMMENT ON FUNCTION peer_internal.operator_name(oid) IS 'An operator as SQL text that no search_path changes.';

CREATE OR REPLACE FUNCTION peer_internal.rival_statement(k pg_catalog.pg_constraint, key_text text, source text, same_key text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- The parts of the index as columns e1, e2, … of a subselect of its own: expressions there name no table. Unique indexes
    -- compare by the operator of equality (strategy 3 of a B-tree), exclusion constraints by those that they list.
    WITH part AS (
        SELECT n.n, pg_get_indexdef(i.indexrelid, n.n, false) AS expression, i.is_distinct,
               peer_internal.operator_name(CASE WHEN k.contype = 'x' THEN k.conexclop[n.n] ELSE o.amopopr END) AS operator
          FROM (SELECT x.indexrelid, x.indnkeyatts, x.indclass, coalesce((to_jsonb(x) ->> 'indnullsnotdistinct')::boolean, false) AS is_distinct
                  FROM pg_index AS x WHERE x.indexrelid = k.conindid) AS i
         CROSS JOIN generate_series(1, i.indnkeyatts::int) AS n(n)
          JOIN pg_opclass AS c ON c.oid = i.indclass[n.n - 1]
          LEFT JOIN pg_amop AS o ON o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype AND o.amoprighttype = c.opcintype AND o.amopstrategy = 3),
    side AS (
        SELECT format('(SELECT x.tableoid AS part, x.ctid AS row_id, %s FROM %s AS x%s)', string_agg(format('%s AS e%s', p.expression, p.n), ', ' ORDER BY p.n), k.conrelid::regclass,
                      (SELECT ' WHERE ' || pg_get_expr(i.indpred, i.indrelid) FROM pg_index AS i WHERE i.indexrelid = k.conindid AND i.indpred IS NOT NULL)) AS sql
          FROM part AS p)
    SELECT format('SELECT %s FROM %s AS t JOIN %s AS s ON %s JOIN %s AS mine ON mine.row_id = t.ctid AND mine.part = t.tableoid WHERE EXISTS (SELECT FROM %s AS rival WHERE (rival.row_id <> mine.row_id OR rival.part <> mine.part) AND %s) LIMIT 1',
                  key_text, k.conrelid::regclass, source, same_key, side.sql, side.sql,
                  (SELECT string_agg(format(CASE WHEN p.is_distinct THEN '(rival.e%1$s %2$s mine.e%1$s OR (rival.e%1$s IS NULL AND mine.e%1$s IS NULL))'
                                                 ELSE 'rival.e%1$s %2$s mine.e%1$s' END, p.n, p.operator), ' AND ' ORDER BY p.n) FROM part AS p))
      FROM side
$$;
COMMENT ON FUNCTION peer_internal.rival_statement(pg_catalog.pg_constraint, text, text, text) IS
    'SQL text that finds a merged row which another row excludes by a unique or exclusion constraint.';

CREATE OR REPLACE FUNCTION peer_internal.constraint_columns(relation oid, numbers smallint[], template text, separator text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format(template, quote_ident(a.attname), n.n), separator ORDER BY n.n)
      FROM unnest(numbers) WITH ORDINALITY AS n(attnum, n) JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = n.attnum
$$;
COMMENT ON FUNCTION peer_internal.constraint_columns(oid, smallint[], text, text) IS 'Columns of a constraint through a format() template: %1$s quoted name, %2$s position.';

CREATE OR REPLACE FUNCTION peer_internal.reference_condition(k pg_catalog.pg_constraint, parent text, child text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- by the operators of the foreign key: a type may have its own =, outside of search_path
    SELECT string_agg(format('%s.%I %s %s.%I', parent, y.attname, peer_internal.operator_name(n.operator), child, x.attname), ' AND ' ORDER BY n.n)
      FROM unnest(k.conkey, k.confkey, k.conpfeqop) WITH ORDINALITY AS n(child_number, parent_number, operator, n)
      JOIN pg_attribute AS x ON x.attrelid = k.conrelid AND x.attnum = n.child_number
      JOIN pg_attribute AS y ON y.attrelid = k.confrelid AND y.attnum = n.parent_number
$$;
COMMENT ON FUNCTION peer_internal.reference_condition(pg_catalog.pg_constraint, text, text) IS 'SQL text of the condition that one row (alias parent) is the one that another (alias child) references.';

CREATE OR REPLACE FUNCTION peer_internal.verify_written(relation_id uuid, lines text[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET row_security = off
-- every side is found by an index: that of the key, of what a foreign key references, of the constraint
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    target regclass;
    k pg_constraint;
    offender text;
    key_text text := peer_internal.key_text_expression(verify_written.relation_id, 't.%1$s');
    source text := peer_internal.line_source(verify_written.relation_id, '{}');
    same_key text := peer_internal.key_list(verify_written.relation_id, 't.%1$s = s.%1$s', ' AND ');
BEGIN
    IF lines = '{}' THEN
        RETURN;
    END IF;
    SELECT r.relation INTO STRICT target FROM peer_internal.relation AS r WHERE r.relation_id = verify_written.relation_id;
    -- a partition may have constraints of its own; those with a parent are the table's, shown once more for each partition
    FOR k IN SELECT c.* FROM pg_constraint AS c
              WHERE (c.conrelid = target OR c.conrelid IN (SELECT p.part FROM peer_internal.relation_part AS p WHERE p.relation_id = verify_written.relation_id))
                AND c.conparentid = 0 AND (c.contype = 'f' OR (c.contype IN ('u', 'x') AND c.condeferrable)) ORDER BY c.conname COLLATE "C" LOOP
        IF k.contype = 'f' THEN
            CONTINUE WHEN (to_jsonb(k) ->> 'conenforced')::boolean IS FALSE;
            -- MATCH FULL: all of the columns are NULL, or none
            EXECUTE format('SELECT %s FROM %s AS t JOIN %s AS s ON %s WHERE CASE WHEN %s THEN NOT EXISTS (SELECT FROM %s AS p WHERE %s FOR KEY SHARE OF p) ELSE %s END LIMIT 1',
                key_text, k.conrelid::regclass, source, same_key,
                peer_internal.constraint_columns(k.conrelid, k.conkey, 't.%1$s IS DISTINCT FROM NULL', ' AND '),
                k.confrelid::regclass,
                peer_internal.reference_condition(k, 'p', 't'),
                CASE k.confmatchtype WHEN 'f' THEN peer_internal.constraint_columns(k.conrelid, k.conkey, 't.%1$s IS DISTINCT FROM NULL', ' OR ') ELSE 'false' END)
                INTO offender USING lines;
        ELSE
            EXECUTE peer_internal.rival_statement(k, key_text, source, same_key) INTO offender USING lines;
        END IF;
        IF offender IS NOT NULL THEN
            PERFORM peer_internal.raise_violation(k.oid, offender);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.verify_written(uuid, text[]) IS 'Checks the foreign keys and the deferrable unique and exclusion constraints of merged rows.';

CREATE OR REPLACE FUNCTION peer_internal.verify_referenced(relation_id uuid, deleted text[], updated_columns uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
    target regclass;
    k pg_constraint;
    orphan text;
    is_by_key boolean;
    child_filter text;
BEGIN
    SELECT r.relation INTO STRICT target FROM peer_internal.relation AS r WHERE r.relation_id = verify_referenced.relation_id;
    FOR k IN SELECT c.* FROM pg_constraint AS c
              WHERE (c.confrelid = target OR c.confrelid IN (SELECT p.part FROM peer_internal.relation_part AS p WHERE p.relation_id = verify_referenced.relation_id))
                AND c.conparentid = 0 AND c.contype = 'f' AND (to_jsonb(c) ->> 'conenforced')::boolean IS NOT FALSE
              ORDER BY c.conrelid, c.conname COLLATE "C" LOOP
        is_by_key := (SELECT bool_and(coalesce(x.is_key, false)) AND count(*) = (SELECT r.key_count FROM peer_internal.relation AS r WHERE r.relation_id = verify_referenced.relation_id)
                        FROM unnest(k.confkey) AS n(attnum) JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = n.attnum
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
                SELECT FROM unnest(k.confkey) AS n(attnum) JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = n.attnum
                  JOIN peer_internal.relation_column AS x ON x.relation_id = verify_referenced.relation_id AND x.name = a.attname
                 WHERE x.column_id = ANY (updated_columns));
            child_filter := '$1 IS NOT NULL';
        END IF;
        -- ROW(c.*), because c alone could be a column of that name
        EXECUTE format('SELECT ROW(c.*)::text FROM %s AS c WHERE %s AND %s AND NOT EXISTS (SELECT FROM %s AS p WHERE %s) LIMIT 1',
            k.conrelid::regclass, child_filter,
            peer_internal.constraint_columns(k.conrelid, k.conkey, 'c.%1$s IS DISTINCT FROM NULL', ' AND '),
            k.confrelid::regclass, peer_internal.reference_condition(k, 'p', 'c')) INTO orphan USING deleted;
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
