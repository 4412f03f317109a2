-- The language of the table description: what an expression token, a name and a type may be. Descriptions come from other
-- peers, so everything that is not on these lists is refused, at describing and again at creating.

CREATE OR REPLACE FUNCTION peer_internal.refuse_description(code text, place text, problem text, remedy text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = code,
        MESSAGE = format('the table description cannot be used: %s', problem),
        DETAIL = format('At %s.', place),
        HINT = coalesce(remedy, 'A correct description comes from a peer that runs the same version of pgpeer; '
                                'or create the table by hand and join again.');
END
$$;
COMMENT ON FUNCTION peer_internal.refuse_description(text, text, text, text) IS
    'Raises: the description of a table cannot be used. place is the path inside the description.';

CREATE OR REPLACE FUNCTION peer_internal.is_expression_function(name text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- every pg_catalog overload of these names only computes: nothing here reads tables, files, settings or sequences,
    -- sleeps, signals, or makes much out of little (no repeat, no lpad)
    SELECT name = ANY (ARRAY[
        'abs', 'acos', 'asin', 'atan', 'atan2', 'cbrt', 'ceil', 'ceiling', 'cos', 'degrees', 'div', 'exp', 'floor', 'gcd',
        'lcm', 'ln', 'log', 'mod', 'pi', 'power', 'radians', 'random', 'round', 'scale', 'sign', 'sin', 'sqrt', 'tan',
        'trim_scale', 'trunc',
        'ascii', 'bit_count', 'bit_length', 'btrim', 'char_length', 'character_length', 'chr', 'concat', 'concat_ws', 'decode',
        'encode', 'initcap', 'left', 'length', 'like_escape', 'lower', 'ltrim', 'md5', 'octet_length', 'position',
        'regexp_replace', 'replace', 'reverse', 'right', 'rtrim', 'sha224', 'sha256', 'sha384', 'sha512',
        'similar_to_escape', 'split_part', 'starts_with', 'strpos', 'substr', 'substring', 'to_hex', 'translate', 'upper',
        'array_append', 'array_length', 'array_lower', 'array_ndims', 'array_position', 'array_remove', 'array_to_string',
        'array_upper', 'cardinality', 'num_nonnulls', 'num_nulls', 'string_to_array',
        'json_array_length', 'json_build_array', 'json_build_object', 'json_typeof', 'jsonb_array_length',
        'jsonb_build_array', 'jsonb_build_object', 'jsonb_extract_path', 'jsonb_extract_path_text', 'jsonb_strip_nulls',
        'jsonb_typeof', 'to_json', 'to_jsonb',
        'age', 'clock_timestamp', 'date_part', 'date_trunc', 'isfinite', 'justify_days', 'justify_hours',
        'justify_interval', 'make_date', 'make_interval', 'make_time', 'make_timestamp', 'make_timestamptz', 'now',
        'statement_timestamp', 'timezone', 'to_char', 'to_date', 'to_number', 'to_timestamp', 'transaction_timestamp',
        'gen_random_uuid', 'uuid_extract_timestamp', 'uuid_extract_version', 'uuidv4', 'uuidv7',
        'daterange', 'int4range', 'int8range', 'isempty', 'lower_inc', 'lower_inf', 'numrange', 'range_merge', 'tsrange',
        'tstzrange', 'upper_inc', 'upper_inf',
        'broadcast', 'family', 'host', 'hostmask', 'inet_same_family', 'masklen', 'netmask', 'network', 'set_masklen',
        'setweight', 'to_tsvector'])
$$;
COMMENT ON FUNCTION peer_internal.is_expression_function(text) IS
    'Whether the pg_catalog function of this name may be called by an expression that travels between peers.';

CREATE OR REPLACE FUNCTION peer_internal.is_value_keyword(word text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT word = ANY (ARRAY[
        'CURRENT_DATE', 'CURRENT_TIME', 'CURRENT_TIMESTAMP', 'CURRENT_USER', 'FALSE', 'LOCALTIME', 'LOCALTIMESTAMP',
        'NULL', 'SESSION_USER', 'TRUE', 'USER', 'VALUE'])
$$;
CREATE OR REPLACE FUNCTION peer_internal.is_expression_keyword(word text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- no SELECT, no OPERATOR, no VARIADIC: what is absent cannot be said
    SELECT word = ANY (ARRAY[
        'ALL', 'AND', 'ANY', 'ARRAY', 'AT', 'BETWEEN', 'BOTH', 'CASE', 'COALESCE', 'COLLATE', 'DISTINCT', 'ELSE', 'END',
        'ESCAPE', 'EXTRACT', 'FOR', 'FROM', 'GREATEST', 'ILIKE', 'IN', 'IS', 'LEADING', 'LEAST', 'LIKE', 'NOT',
        'NULLIF', 'OR', 'POSITION', 'ROW', 'SUBSTRING', 'THEN', 'TIME', 'TRAILING', 'TRIM', 'UNKNOWN', 'WHEN', 'ZONE'])
        OR peer_internal.is_value_keyword(word)
$$;

COMMENT ON FUNCTION peer_internal.is_expression_keyword(text) IS 'Whether an expression that travels between peers may hold this keyword.';
COMMENT ON FUNCTION peer_internal.is_value_keyword(text) IS 'Whether this keyword is a value by itself.';

CREATE OR REPLACE FUNCTION peer_internal.is_extract_field(name text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT name = ANY (ARRAY[
        'century', 'day', 'decade', 'dow', 'doy', 'epoch', 'hour', 'isodow', 'isoyear', 'julian', 'microseconds',
        'millennium', 'milliseconds', 'minute', 'month', 'quarter', 'second', 'timezone', 'timezone_hour',
        'timezone_minute', 'week', 'year'])
$$;
COMMENT ON FUNCTION peer_internal.is_extract_field(text) IS 'Whether EXTRACT knows this field.';

CREATE OR REPLACE FUNCTION peer_internal.is_expression_operator(name text) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_operator AS o
                    WHERE o.oprname = is_expression_operator.name AND o.oprnamespace = 'pg_catalog'::regnamespace)
$$;
COMMENT ON FUNCTION peer_internal.is_expression_operator(text) IS 'Whether pg_catalog has an operator of this name.';

CREATE OR REPLACE FUNCTION peer_internal.is_reserved_schema(name text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT name LIKE E'pg\\_%' OR name IN ('information_schema', 'peer', 'peer_internal')
$$;
COMMENT ON FUNCTION peer_internal.is_reserved_schema(text) IS 'Whether this schema belongs to PostgreSQL or to pgpeer.';

CREATE OR REPLACE FUNCTION peer_internal.is_local_type(type oid) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- object identifiers, transaction numbers, row addresses, cursors and access rights mean something in one database only; what
    -- the catalog and indexes keep for themselves has an output but no input
    SELECT type = ANY (ARRAY['oid', 'oidvector', 'regproc', 'regprocedure', 'regoper', 'regoperator', 'regclass', 'regtype',
                             'regrole', 'regnamespace', 'regconfig', 'regdictionary', 'regcollation', 'xid', 'xid8', 'cid',
                             'tid', 'txid_snapshot', 'pg_snapshot', 'aclitem', 'refcursor']::regtype[]::oid[])
        OR EXISTS (SELECT FROM pg_type AS t
                    WHERE t.oid = is_local_type.type AND t.typnamespace = 'pg_catalog'::regnamespace
                      AND (t.typname LIKE 'reg%' OR t.typtype IN ('p', 'c')
                           OR t.typname IN ('gtsvector', 'pg_node_tree', 'pg_ndistinct', 'pg_dependencies', 'pg_mcv_list',
                                            'pg_brin_bloom_summary', 'pg_brin_minmax_multi_summary')))
$$;
COMMENT ON FUNCTION peer_internal.is_local_type(oid) IS
    'Whether values of this type mean something inside one database only (object ids, transaction ids, row addresses), or cannot be read back from their text.';

REVOKE ALL ON FUNCTION peer_internal.refuse_description(text, text, text, text), peer_internal.is_expression_function(text),
    peer_internal.is_expression_keyword(text), peer_internal.is_value_keyword(text), peer_internal.is_extract_field(text),
    peer_internal.is_expression_operator(text), peer_internal.is_reserved_schema(text), peer_internal.is_local_type(oid)
    FROM PUBLIC;
