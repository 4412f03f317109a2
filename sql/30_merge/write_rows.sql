-- Writing section lines to a user's table. Runs with capture off, on rows that the merge has locked.

CREATE OR REPLACE FUNCTION peer_internal.all_columns(relation_id uuid) RETURNS uuid[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(c.column_id ORDER BY c.ordinal), '{}')
      FROM peer_internal.relation_column AS c WHERE c.relation_id = all_columns.relation_id AND NOT c.is_key
$$;
COMMENT ON FUNCTION peer_internal.all_columns(uuid) IS 'Every non-key column that travels, in order.';

CREATE OR REPLACE FUNCTION peer_internal.column_list(relation_id uuid, column_ids uuid[], template text, separator text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format(template, quote_ident(c.name)), separator ORDER BY o.n)
      FROM unnest(column_ids) WITH ORDINALITY AS o(column_id, n)
      JOIN peer_internal.relation_column AS c ON c.relation_id = column_list.relation_id AND c.column_id = o.column_id
$$;
COMMENT ON FUNCTION peer_internal.column_list(uuid, uuid[], text, text) IS 'Columns through a format() template: %1$s quoted name.';

CREATE OR REPLACE FUNCTION peer_internal.lock_rows(relation_id uuid, lines text[], strength text) RETURNS text[]
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
    target regclass;
    locked text[];
BEGIN
    SELECT r.relation INTO STRICT target FROM peer_internal.relation AS r WHERE r.relation_id = lock_rows.relation_id;
    EXECUTE format('SELECT coalesce(array_agg(locked.line), ''{}'') FROM (SELECT s."pgpeer.line" AS line FROM %s AS t JOIN %s AS s ON %s ORDER BY %s FOR %s OF t) AS locked',
                   target,
                   peer_internal.line_source(lock_rows.relation_id, '{}'),
                   peer_internal.key_list(lock_rows.relation_id, 't.%1$s = s.%1$s', ' AND '),
                   peer_internal.key_list(lock_rows.relation_id, 't.%1$s', ', '),
                   CASE strength WHEN 'delete' THEN 'UPDATE' ELSE 'NO KEY UPDATE' END)
       INTO locked USING lines;
    RETURN locked;
END
$$;
COMMENT ON FUNCTION peer_internal.lock_rows(uuid, text[], text) IS 'Locks the rows with these keys that exist, in key order (merge rule 7), and returns their lines. strength: update or delete.';

CREATE OR REPLACE FUNCTION peer_internal.write_rows(relation_id uuid, target regclass, op text, column_ids uuid[], lines text[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET row_security = off
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC' SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
AS $$
DECLARE
    statement text;
    written bigint;
    source text := peer_internal.line_source(write_rows.relation_id, column_ids);
    same_key text := peer_internal.key_list(write_rows.relation_id, 't.%1$s = s.%1$s', ' AND ');
    key_columns text := peer_internal.key_list(write_rows.relation_id, '%1$s', ', ');
    other_columns text := coalesce(', ' || peer_internal.column_list(write_rows.relation_id, column_ids, '%1$s', ', '), '');
BEGIN
    IF lines = '{}' THEN
        RETURN 0;
    END IF;
    CASE op
        WHEN 'DELETE' THEN
            statement := format('DELETE FROM %s AS t USING %s AS s WHERE %s', target, source, same_key);
        WHEN 'UPDATE' THEN
            IF column_ids = '{}' THEN
                RETURN cardinality(lines);  -- nothing but the key: the row stands already
            END IF;
            statement := format('UPDATE %s AS t SET %s FROM %s AS s WHERE %s', target,
                                peer_internal.column_list(write_rows.relation_id, column_ids, '%1$s = s.%1$s', ', '), source, same_key);
        WHEN 'INSERT' THEN
            -- DO NOTHING, never an upsert: a row that stands there unlocked is somebody's who has not been asked
            statement := format('INSERT INTO %s AS t (%s%s) OVERRIDING SYSTEM VALUE SELECT %s%s FROM %s AS s ON CONFLICT (%s) DO NOTHING', target,
                                key_columns, other_columns, key_columns, other_columns, source, key_columns);
    END CASE;
    EXECUTE statement USING lines;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END
$$;
COMMENT ON FUNCTION peer_internal.write_rows(uuid, regclass, text, uuid[], text[]) IS 'Applies section lines of one operation to a table of the relation''s shape; returns the rows written.';
