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

CREATE OR REPLACE FUNCTION peer_internal.identity_columns(target regclass, relation_id uuid, column_ids uuid[]) RETURNS uuid[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(c.column_id ORDER BY c.ordinal), '{}')
      FROM peer_internal.relation_column AS c
      JOIN pg_attribute AS a ON a.attrelid = identity_columns.target AND a.attname = c.name
     WHERE c.relation_id = identity_columns.relation_id AND c.column_id = ANY (column_ids) AND a.attidentity = 'a'
$$;
COMMENT ON FUNCTION peer_internal.identity_columns(regclass, uuid, uuid[]) IS 'Which columns are GENERATED ALWAYS AS IDENTITY: an UPDATE may not set them.';

CREATE OR REPLACE FUNCTION peer_internal.replace_rows(relation_id uuid, target regclass, column_ids uuid[], identity_ids uuid[], lines text[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET row_security = off SET array_nulls = on
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC' SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
-- as in peer_internal.lock_rows: the rows are found by their keys
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    everything uuid[] := peer_internal.all_columns(replace_rows.relation_id);
    key_columns text := peer_internal.key_list(replace_rows.relation_id, '%1$s', ', ');
BEGIN
    EXECUTE format('WITH gone AS (DELETE FROM %1$s AS t USING %2$s AS s WHERE %3$s AND (%4$s) RETURNING %5$s, %6$s)
                    INSERT INTO %1$s (%7$s, %8$s) OVERRIDING SYSTEM VALUE SELECT * FROM gone', target,
        peer_internal.line_source(replace_rows.relation_id, column_ids),
        peer_internal.key_list(replace_rows.relation_id, 't.%1$s = s.%1$s', ' AND '),
        peer_internal.column_list(replace_rows.relation_id, identity_ids, 't.%1$s <> s.%1$s', ' OR '),
        peer_internal.key_list(replace_rows.relation_id, 't.%1$s', ', '),
        (SELECT string_agg(CASE WHEN c.column_id = ANY (identity_ids) THEN 's.' ELSE 't.' END || quote_ident(c.name), ', ' ORDER BY c.ordinal)
           FROM peer_internal.relation_column AS c WHERE c.relation_id = replace_rows.relation_id AND NOT c.is_key),
        key_columns, peer_internal.column_list(replace_rows.relation_id, everything, '%1$s', ', ')) USING lines;
END
$$;
COMMENT ON FUNCTION peer_internal.replace_rows(uuid, regclass, uuid[], uuid[], text[]) IS
    'Gives identity columns the values of section lines, by deleting and inserting the (locked) rows in which they differ.';

CREATE OR REPLACE FUNCTION peer_internal.write_rows(relation_id uuid, target regclass, op text, column_ids uuid[], lines text[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET row_security = off SET array_nulls = on
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC' SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
-- as in peer_internal.lock_rows: the rows are found by their keys
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    statement text;
    identity_ids uuid[];
    set_list text;
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
            identity_ids := peer_internal.identity_columns(target, write_rows.relation_id, column_ids);
            IF identity_ids <> '{}' THEN
                PERFORM peer_internal.replace_rows(write_rows.relation_id, target, column_ids, identity_ids, lines);
            END IF;
            set_list := peer_internal.column_list(write_rows.relation_id, ARRAY(SELECT u.id FROM unnest(column_ids) WITH ORDINALITY AS u(id, n)
                                                                                WHERE u.id <> ALL (identity_ids) ORDER BY u.n), '%1$s = s.%1$s', ', ');
            statement := format(CASE WHEN set_list IS NULL THEN 'SELECT FROM %1$s AS t JOIN %3$s AS s ON %4$s' ELSE 'UPDATE %1$s AS t SET %2$s FROM %3$s AS s WHERE %4$s' END,
                                target, set_list, source, same_key);
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
