-- Tables that are changed under pgpeer (ALTER TABLE). A write never fails because its triggers are stale: they notice it and let it
-- pass. Each seal and each merge first looks whether the tables are as they were: names are followed, and what is no longer the
-- table of the bundle is neither captured nor merged into until somebody has decided. Then the rows are compared with the commits.

CREATE OR REPLACE FUNCTION peer_internal.same_type(value anyelement, sample anyelement) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT true
$$;
COMMENT ON FUNCTION peer_internal.same_type(anyelement, anyelement) IS 'For static SQL: there is no such function for two values of different types.';

CREATE OR REPLACE FUNCTION peer_internal.fit_condition(r peer_internal.relation, alias text, event text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('peer_internal.same_type(%s.%I, NULL::%s)', alias, c.name, format_type(c.type, -1)), ' AND ' ORDER BY NOT c.is_key, c.ordinal)
      FROM peer_internal.relation_column AS c WHERE c.relation_id = r.relation_id AND (c.is_key OR event = 'update')
$$;
COMMENT ON FUNCTION peer_internal.fit_condition(peer_internal.relation, text, text) IS
    'SQL text that can only be parsed while the columns which a capture trigger uses are there with their types.';

CREATE OR REPLACE FUNCTION peer_internal.fit_check(r peer_internal.relation, event text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- The block is a subtransaction that writes nothing, so it gets no number and costs a microsecond or two; the query is planned once.
    SELECT format(E'BEGIN\n        %s\n    EXCEPTION WHEN syntax_error_or_access_rule_violation THEN\n        PERFORM peer_internal.miss_write(%L);\n        RETURN NULL;\n    END;\n    ',
                  CASE event WHEN 'truncate' THEN format('EXECUTE format(%L, TG_TABLE_SCHEMA, TG_TABLE_NAME);',
                                 format('SELECT FROM ONLY %%I.%%I AS o WHERE false AND %s', replace(peer_internal.fit_condition(r, 'o', event), '%', '%%')))
                             ELSE format('PERFORM FROM %1$s AS x WHERE false AND %2$s;', CASE event WHEN 'delete' THEN 'o' ELSE 'n' END, peer_internal.fit_condition(r, 'x', event)) END,
                  r.relation_id)
$$;
COMMENT ON FUNCTION peer_internal.fit_check(peer_internal.relation, text) IS
    'PL/pgSQL text with which a capture trigger begins: where the table is no longer as the trigger expects it, the write passes and is noted.';

CREATE OR REPLACE FUNCTION peer_internal.miss_write(relation_id uuid) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- no lock on a row, so that writers do not wait for each other; a few rows too many do no harm
    INSERT INTO peer_internal.missed_write (relation_id)
    SELECT miss_write.relation_id WHERE NOT EXISTS (SELECT FROM peer_internal.missed_write AS m WHERE m.relation_id = miss_write.relation_id)
$$;
COMMENT ON FUNCTION peer_internal.miss_write(uuid) IS 'Writes down that a table was written and not captured.';

CREATE OR REPLACE VIEW peer_internal.table_shape AS
SELECT c.oid AS relation,
       pg_catalog.md5(pg_catalog.concat_ws(' ', n.nspname, c.relname, c.relkind, c.relpersistence,
           (SELECT i.indkey::text FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary),
           (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated), E'\n' ORDER BY a.attnum)
              FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))) AS shape
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace;
COMMENT ON VIEW peer_internal.table_shape IS 'A mark of the names, types and key of each table: another one after any of them was changed.';

CREATE OR REPLACE FUNCTION peer_internal.shape_columns(r peer_internal.relation, by_name boolean)
RETURNS TABLE (column_id uuid, name text, own_name text, attnum smallint, modifier int, difference text)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.column_id, c.name, a.attname::text, a.attnum, a.atttypmod,
           CASE WHEN a.attnum IS NULL THEN
                     CASE WHEN o.attnum IS NULL THEN format('column %I has been dropped', c.name)
                          ELSE format('column %I has been dropped and made again, without the values that others have', c.name) END
                WHEN a.atttypid <> c.type THEN format('column %I is of type %s now, and was of type %s', a.attname, format_type(a.atttypid, a.atttypmod), format_type(c.type, c.modifier))
                WHEN a.attgenerated <> '' AND NOT c.is_key THEN format('column %I is generated now', a.attname)
                WHEN NOT by_name AND a.atttypmod <> c.modifier THEN format('column %I is of type %s now, and was of type %s', a.attname, format_type(a.atttypid, a.atttypmod), format_type(c.type, c.modifier)) END
      FROM peer_internal.relation_column AS c
      LEFT JOIN pg_attribute AS o ON o.attrelid = r.relation AND o.attname = c.name AND NOT o.attisdropped AND o.attnum > 0
      -- by its number; by its name where that is not known yet, or shall count
      LEFT JOIN pg_attribute AS a ON a.attrelid = r.relation AND NOT a.attisdropped
            AND a.attnum = CASE WHEN c.attnum IS NULL OR (by_name AND NOT EXISTS (SELECT FROM pg_attribute AS x WHERE x.attrelid = r.relation AND x.attnum = c.attnum AND NOT x.attisdropped))
                                THEN o.attnum ELSE c.attnum END
     WHERE c.relation_id = r.relation_id
$$;
COMMENT ON FUNCTION peer_internal.shape_columns(peer_internal.relation, boolean) IS
    'Which column of the table each column of the relation is, and how it differs (NULL: not). by_name: one that was made again counts, and so does another length or scale.';

CREATE OR REPLACE FUNCTION peer_internal.shape_difference(r peer_internal.relation, by_name boolean) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = r.relation) THEN 'it has been dropped'
                ELSE coalesce((SELECT string_agg(s.difference, ', ' ORDER BY s.name COLLATE "C") FROM peer_internal.shape_columns(r, by_name) AS s),
                              CASE WHEN k.now IS NULL THEN 'it has no primary key any more'
                                   WHEN k.now <> k.was THEN 'its primary key is another one' END) END
      FROM (SELECT (SELECT string_agg(s.attnum::text, ' ' ORDER BY c.ordinal) FROM peer_internal.shape_columns(r, by_name) AS s
                      JOIN peer_internal.relation_column AS c ON c.relation_id = r.relation_id AND c.column_id = s.column_id AND c.is_key),
                   (SELECT i.indkey::text FROM pg_index AS i WHERE i.indrelid = r.relation AND i.indisprimary)) AS k(was, now)
$$;
COMMENT ON FUNCTION peer_internal.shape_difference(peer_internal.relation, boolean) IS
    'Why the table is no longer the one of the bundle, as a half sentence, or NULL. Its name and those of its columns may be others, and it may have more columns.';

CREATE OR REPLACE FUNCTION peer_internal.adopt_shape(r peer_internal.relation, by_name boolean) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- two steps, because names may have been swapped
    UPDATE peer_internal.relation_column AS c SET name = 'pgpeer ' || c.column_id
      FROM peer_internal.shape_columns(r, by_name) AS s WHERE c.relation_id = r.relation_id AND c.column_id = s.column_id AND s.own_name <> c.name;
    UPDATE peer_internal.relation_column AS c SET name = s.own_name, attnum = s.attnum, modifier = s.modifier
      FROM peer_internal.shape_columns(r, by_name) AS s WHERE c.relation_id = r.relation_id AND c.column_id = s.column_id;
    UPDATE peer_internal.relation AS x SET shape = (SELECT t.shape FROM peer_internal.table_shape AS t WHERE t.relation = r.relation), suspended = NULL WHERE x.relation_id = r.relation_id RETURNING x.* INTO r;
    UPDATE peer_internal.relation AS x SET fold_sql = peer_internal.fold_statement(r), seal_sql = peer_internal.section_statement(r) WHERE x.relation_id = r.relation_id;
    PERFORM peer_internal.write_capture_functions(r);
END
$$;
COMMENT ON FUNCTION peer_internal.adopt_shape(peer_internal.relation, boolean) IS 'Takes the table as it is now: names, and the SQL that is made of them.';

CREATE OR REPLACE FUNCTION peer_internal.follow_shape(r peer_internal.relation) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms'
AS $$
DECLARE
    difference text := peer_internal.shape_difference(r, false);
    -- after a change of names the journal may call one column by the name of another
    is_behind boolean := r.suspended IS NOT NULL OR EXISTS (SELECT FROM peer_internal.missed_write AS m WHERE m.relation_id = r.relation_id)
        OR EXISTS (SELECT FROM peer_internal.shape_columns(r, false) AS s WHERE s.own_name <> s.name);
BEGIN
    IF difference IS NOT NULL THEN
        IF r.suspended IS DISTINCT FROM difference OR r.shape IS DISTINCT FROM (SELECT t.shape FROM peer_internal.table_shape AS t WHERE t.relation = r.relation) THEN
            UPDATE peer_internal.relation AS x SET shape = (SELECT t.shape FROM peer_internal.table_shape AS t WHERE t.relation = r.relation), suspended = difference WHERE x.relation_id = r.relation_id RETURNING x.* INTO r;
            PERFORM peer_internal.write_capture_functions(r);
            EXECUTE format('DELETE FROM peer_internal.journal_%s', r.relation_number);  -- the comparison finds it again
        END IF;
        RETURN;
    END IF;
    IF is_behind THEN
        BEGIN
            EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', r.relation);
        EXCEPTION WHEN lock_not_available THEN
            RAISE EXCEPTION 'table % was changed, and is being written', r.relation USING ERRCODE = 'lock_not_available',
                DETAIL = 'What was written to it meanwhile is captured once the transaction that writes it has ended.', HINT = 'Nothing was lost. Try again; the worker does so by itself.';
        END;
    END IF;
    PERFORM peer_internal.adopt_shape(r, false);
    IF is_behind THEN
        SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = r.relation_id;
        PERFORM peer_internal.compare_with_head(r, NULL);
        DELETE FROM peer_internal.missed_write AS m WHERE m.relation_id = r.relation_id;
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.follow_shape(peer_internal.relation) IS
    'Brings the capture of one table in line with the table, or suspends it with the reason.';

CREATE OR REPLACE FUNCTION peer_internal.changed_shapes(bundle_id uuid) RETURNS SETOF peer_internal.relation
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT r.* FROM peer_internal.relation AS r
     WHERE r.bundle_id = changed_shapes.bundle_id AND r.is_tracked
       AND (r.shape IS DISTINCT FROM (SELECT t.shape FROM peer_internal.table_shape AS t WHERE t.relation = r.relation)
            OR (r.suspended IS NULL AND EXISTS (SELECT FROM peer_internal.missed_write AS m WHERE m.relation_id = r.relation_id)));
END
$$;
COMMENT ON FUNCTION peer_internal.changed_shapes(uuid) IS 'The relations of a bundle whose tables were changed, or written without being captured, since capture was brought in line with them.';
