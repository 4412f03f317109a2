-- The generated SQL of a tracked relation: key lists, casts, masks. Names are quoted here and nowhere else.

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

CREATE OR REPLACE FUNCTION peer_internal.output_expression(value_sql text, type regtype) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- The output function, as COPY uses it, and never a cast: casts to text may be the user's own, and those of boolean,
    -- bpchar and inet print other text. For the types listed a cast is the output function, and cheaper.
    SELECT CASE WHEN type = 'bool'::regtype THEN format('left((%s)::text, 1)', value_sql)
                WHEN type = ANY (ARRAY['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'uuid', 'date', 'time', 'timetz', 'timestamp', 'timestamptz',
                                       'interval', 'oid', 'macaddr', 'macaddr8', 'bit', 'varbit', 'text', 'varchar', 'bytea', 'json', 'jsonb']::regtype[])
                THEN format('(%s)::text', value_sql)
                -- IS DISTINCT FROM NULL is, unlike IS NOT NULL, true for a composite value whose fields are all NULL
                ELSE format('CASE WHEN %1$s IS DISTINCT FROM NULL THEN format(''%%s'', %1$s) END', value_sql) END
$$;
COMMENT ON FUNCTION peer_internal.output_expression(text, regtype) IS 'SQL text that turns a value into the text of its output function (NULL stays NULL).';

CREATE OR REPLACE FUNCTION peer_internal.input_expression(text_sql text, type regtype) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- A cast from text calls the input function, unless a user made a cast for the type (or will): types that are not PostgreSQL's
    -- own go in as the element of an array, whose input function calls that of the type. The modifier is -1, not NULL: format_type(bpchar, NULL) is "character",
    -- which would cut values to one character; the assignment to the column applies the modifier and refuses what does not fit.
    SELECT CASE WHEN t.typarray <> 0 AND t.typnamespace <> 'pg_catalog'::regnamespace THEN format($sql$((('{"' || replace(replace(%s, E'\\', E'\\\\'), '"', E'\\"') || '"}')::%s)[1])$sql$, text_sql, format_type(t.typarray, -1))
                ELSE format('(%s)::%s', text_sql, format_type(t.oid, -1)) END
      FROM pg_type AS t WHERE t.oid = input_expression.type
$$;
COMMENT ON FUNCTION peer_internal.input_expression(text, regtype) IS 'SQL text that turns text into a value by the input function of the type (NULL stays NULL).';

CREATE OR REPLACE FUNCTION peer_internal.field_expression(value_sql text, type regtype) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(CASE WHEN peer_internal.needs_escape(type) THEN 'peer_internal.escape_field(%s)' ELSE '%s' END,
                  peer_internal.output_expression(value_sql, type))
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
    SELECT string_agg(format(template, quote_ident(c.name), c.ordinal + 1, format_type(c.type, -1)), separator ORDER BY c.ordinal)
      FROM peer_internal.relation_column AS c
     WHERE c.relation_id = key_list.relation_id AND c.is_key
$$;
COMMENT ON FUNCTION peer_internal.key_list(uuid, text, text) IS 'The key columns through a format() template: %1$s quoted name, %2$s number from 1, %3$s type.';

CREATE OR REPLACE FUNCTION peer_internal.key_text_expression(relation_id uuid, template text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(peer_internal.field_expression(format(template, quote_ident(c.name), c.ordinal + 1), c.type), E' || E''\\t'' || ' ORDER BY c.ordinal)
      FROM peer_internal.relation_column AS c
     WHERE c.relation_id = key_text_expression.relation_id AND c.is_key
$$;
COMMENT ON FUNCTION peer_internal.key_text_expression(uuid, text) IS 'SQL text of the key text of a row; its key columns through a format() template: %1$s quoted name, %2$s number from 1.';

CREATE OR REPLACE FUNCTION peer_internal.value_expression(field_sql text, type regtype) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT peer_internal.input_expression(format(CASE WHEN peer_internal.needs_escape(type) THEN 'peer_internal.unescape_field(%s)' ELSE '%s' END, field_sql), type)
$$;
COMMENT ON FUNCTION peer_internal.value_expression(text, regtype) IS 'SQL text that turns a COPY text field (NULL for \N) into a value of the type.';

CREATE OR REPLACE FUNCTION peer_internal.line_source(relation_id uuid, column_ids uuid[]) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- $1 is the array of lines. OFFSET 0 keeps the planner from splitting a line once per column.
    SELECT format('(SELECT %s FROM (SELECT peer_internal.split_line(line) AS f FROM unnest($1) AS l(line) OFFSET 0) AS split)',
                  string_agg(peer_internal.value_expression('f[' || p.position || ']', c.type) || ' AS ' || quote_ident(c.name), ', ' ORDER BY p.position))
      FROM (SELECT k.column_id, k.ordinal + 1 AS position
              FROM peer_internal.relation_column AS k
             WHERE k.relation_id = line_source.relation_id AND k.is_key
            UNION ALL
            SELECT o.column_id, o.n + (SELECT count(*) FROM peer_internal.relation_column AS k WHERE k.relation_id = line_source.relation_id AND k.is_key)
              FROM unnest(column_ids) WITH ORDINALITY AS o(column_id, n)) AS p
      JOIN peer_internal.relation_column AS c ON c.relation_id = line_source.relation_id AND c.column_id = p.column_id
$$;
COMMENT ON FUNCTION peer_internal.line_source(uuid, uuid[]) IS 'SQL text of a FROM item that turns section lines ($1 text[]) into typed rows with the table''s column names.';

CREATE OR REPLACE FUNCTION peer_internal.key_match(relation_id uuid) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r peer_internal.relation;
BEGIN
    -- with this a merge begins: what was written here and not captured would be overwritten
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = key_match.relation_id;
    IF r.suspended IS NOT NULL THEN
        RAISE EXCEPTION 'the table %.% is no longer the one of the bundle: %', quote_ident(r.schema_name), quote_ident(r.table_name), r.suspended
            USING ERRCODE = 'invalid_table_definition', HINT = 'SELECT * FROM peer.problem tells what to do. The commit waits.';
    END IF;
    RETURN (SELECT string_agg(format('t.%I = %s', c.name, peer_internal.value_expression(format('s.f[%s]', c.ordinal + 1), c.type)), ' AND ' ORDER BY c.ordinal)
              FROM peer_internal.relation_column AS c
             WHERE c.relation_id = key_match.relation_id AND c.is_key);
END
$$;
COMMENT ON FUNCTION peer_internal.key_match(uuid) IS 'SQL text of the condition that a row t has the key of a split section line s.f. Raises 42P16 where the table is not merged into.';
