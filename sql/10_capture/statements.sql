-- The generated SQL of a tracked relation: key lists, casts, masks. Names are quoted here and nowhere else.

CREATE OR REPLACE FUNCTION peer_internal.column_type(c peer_internal.relation_column) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- -1, not NULL: format_type(bpchar, NULL) is "character", which would cut values to one character
    SELECT format_type(c.type, -1)
$$;
COMMENT ON FUNCTION peer_internal.column_type(peer_internal.relation_column) IS 'The type of a column as SQL text, without its modifier: the assignment to the column applies that, and refuses what does not fit.';

CREATE OR REPLACE FUNCTION peer_internal.needs_escape(type regtype) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- the output of these types never holds a tab, newline, carriage return or backslash
    SELECT type <> ALL (ARRAY['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'uuid', 'date', 'time', 'timetz',
                              'timestamp', 'timestamptz', 'interval', 'oid', 'inet', 'cidr', 'macaddr', 'macaddr8', 'bit', 'varbit']::regtype[])
$$;
COMMENT ON FUNCTION peer_internal.needs_escape(regtype) IS 'Whether values of the type can hold characters that COPY text escapes.';

CREATE OR REPLACE FUNCTION peer_internal.compares_bytewise(type regtype) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT type <> ALL (ARRAY['int2', 'int4', 'int8', 'bool', 'uuid', 'date', 'time', 'timestamp', 'timestamptz', 'bytea']::regtype[])
$$;
COMMENT ON FUNCTION peer_internal.compares_bytewise(regtype) IS 'Whether a change must be found by comparing binary images: types without =, and types whose = calls different texts equal (numeric 1.0 and 1.00).';

CREATE OR REPLACE FUNCTION peer_internal.field_expression(value_sql text, type regtype) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN peer_internal.needs_escape(type) THEN format('peer_internal.escape_field((%s)::text)', value_sql)
                ELSE format('(%s)::text', value_sql) END
$$;
COMMENT ON FUNCTION peer_internal.field_expression(text, regtype) IS 'SQL text that turns a value into its COPY text field (NULL stays NULL).';

CREATE OR REPLACE FUNCTION peer_internal.mask_bit(ordinal int) RETURNS int
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- a mask is a row of 64-bit words; get_bit counts from the left, so bit 0 of a word is its last one
    SELECT ordinal / 64 * 64 + 63 - ordinal % 64
$$;
COMMENT ON FUNCTION peer_internal.mask_bit(int) IS 'Where get_bit finds the column with this ordinal in a journal mask.';

CREATE OR REPLACE FUNCTION peer_internal.masked_columns(relation_id uuid, mask bit varying) RETURNS uuid[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(c.column_id ORDER BY c.ordinal), '{}')
      FROM peer_internal.relation_column AS c
     WHERE c.relation_id = masked_columns.relation_id AND NOT c.is_key
       AND get_bit(masked_columns.mask, peer_internal.mask_bit(c.ordinal)) = 1
$$;
COMMENT ON FUNCTION peer_internal.masked_columns(uuid, bit varying) IS 'The columns whose bit is set, in order.';

CREATE OR REPLACE FUNCTION peer_internal.key_list(relation_id uuid, template text, separator text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format(template, quote_ident(c.name), c.ordinal + 1, peer_internal.column_type(c)), separator ORDER BY c.ordinal)
      FROM peer_internal.relation_column AS c
     WHERE c.relation_id = key_list.relation_id AND c.is_key
$$;
COMMENT ON FUNCTION peer_internal.key_list(uuid, text, text) IS 'The key columns through a format() template: %1$s quoted name, %2$s number from 1, %3$s type.';

CREATE OR REPLACE FUNCTION peer_internal.key_text_expression(relation_id uuid, template text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(peer_internal.field_expression(format(template, quote_ident(c.name), c.ordinal + 1), c.type), ' || E''\t'' || ' ORDER BY c.ordinal)
      FROM peer_internal.relation_column AS c
     WHERE c.relation_id = key_text_expression.relation_id AND c.is_key
$$;
COMMENT ON FUNCTION peer_internal.key_text_expression(uuid, text) IS 'SQL text of the key text of a row; its key columns through a format() template: %1$s quoted name, %2$s number from 1.';

CREATE OR REPLACE FUNCTION peer_internal.cast_expression(field_sql text, c peer_internal.relation_column) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN peer_internal.needs_escape(c.type) THEN format('peer_internal.unescape_field(%s)::%s', field_sql, peer_internal.column_type(c))
                ELSE format('(%s)::%s', field_sql, peer_internal.column_type(c)) END
$$;
COMMENT ON FUNCTION peer_internal.cast_expression(text, peer_internal.relation_column) IS 'SQL text that turns a COPY text field (NULL for \N) into a value of the column.';

CREATE OR REPLACE FUNCTION peer_internal.line_source(relation_id uuid, column_ids uuid[]) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- $1 is the array of lines. OFFSET 0 keeps the planner from splitting a line once per column.
    SELECT format('(SELECT %s, line AS "pgpeer.line" FROM (SELECT line, peer_internal.split_line(line) AS f FROM unnest($1) AS l(line) OFFSET 0) AS split)',
                  string_agg(peer_internal.cast_expression('f[' || p.position || ']', c) || ' AS ' || quote_ident(c.name), ', ' ORDER BY p.position))
      FROM (SELECT k.column_id, k.ordinal + 1 AS position
              FROM peer_internal.relation_column AS k
             WHERE k.relation_id = line_source.relation_id AND k.is_key
            UNION ALL
            SELECT o.column_id, o.n + (SELECT count(*) FROM peer_internal.relation_column AS k WHERE k.relation_id = line_source.relation_id AND k.is_key)
              FROM unnest(column_ids) WITH ORDINALITY AS o(column_id, n)) AS p
      JOIN peer_internal.relation_column AS c ON c.relation_id = line_source.relation_id AND c.column_id = p.column_id
$$;
COMMENT ON FUNCTION peer_internal.line_source(uuid, uuid[]) IS 'SQL text of a FROM item that turns section lines ($1 text[]) into typed rows, and the line itself as "pgpeer.line".';
