-- From a checked description to SQL text. Only what schema_check.sql let pass comes here; names are quoted, literals are quoted,
-- types and collations are looked up in this server's catalog, functions and operators are pinned to pg_catalog.

CREATE OR REPLACE FUNCTION peer_internal.collation_sql(reference jsonb, place text) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF reference = 'null' THEN
        RETURN '';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_collation AS c
                     JOIN pg_namespace AS n ON n.oid = c.collnamespace
                    WHERE c.collname = reference ->> 'name' AND n.nspname = reference ->> 'schema'
                      AND c.collencoding IN (-1, (SELECT d.encoding FROM pg_database AS d WHERE d.datname = current_database()))) THEN
        PERFORM peer_internal.refuse_description('PGS04', place,
            format('the collation %I.%I does not exist here', reference ->> 'schema', reference ->> 'name'),
            'Create the collation as it is on the peer, then try again.');
    END IF;
    RETURN format(' COLLATE %I.%I', reference ->> 'schema', reference ->> 'name');
END
$$;
COMMENT ON FUNCTION peer_internal.collation_sql(jsonb, text) IS
    'The COLLATE clause of a collation; empty for JSON null. '
    'Raises PGS04 when it does not exist here.';

CREATE OR REPLACE FUNCTION peer_internal.expression_sql(tokens jsonb, place text) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    token jsonb;
    word text;
    problem text;
    parts text[] := '{}';
BEGIN
    FOR token IN SELECT jsonb_array_elements(tokens) LOOP
        word := token ->> 'v';
        IF token ->> 'k' = 'type' THEN
            problem := CASE WHEN peer_internal.resolve_type(token -> 'v') IS NOT NULL
                            THEN peer_internal.cast_type_problem(token -> 'v') END;
            IF problem IS NOT NULL THEN
                PERFORM peer_internal.refuse_description('PGS03', place, 'an expression is refused, ' || problem, NULL);
            END IF;
        END IF;
        parts := parts || CASE token ->> 'k'
            WHEN 'column' THEN quote_ident(word)
            WHEN 'function' THEN 'pg_catalog.' || quote_ident(word)
            WHEN 'operator' THEN format('OPERATOR(pg_catalog.%s)', word)
            WHEN 'string' THEN quote_literal(word)
            WHEN 'bits' THEN format('B''%s''', word)
            WHEN 'type' THEN peer_internal.type_sql(token -> 'v', place)
            WHEN 'collation' THEN replace(peer_internal.collation_sql(token -> 'v', place), ' COLLATE ', '')
            ELSE word END;      -- keyword, number, name, punctuation: one of the allow-lists, or digits
    END LOOP;
    RETURN '(' || array_to_string(parts, ' ') || ')';
END
$$;
COMMENT ON FUNCTION peer_internal.expression_sql(jsonb, text) IS
    'SQL text, in brackets, of a token list that peer_internal.check_tokens let pass.';

CREATE OR REPLACE FUNCTION peer_internal.missing_function(tokens jsonb) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT min(t.token ->> 'v')
      FROM jsonb_array_elements(tokens) AS t(token)
     WHERE t.token ->> 'k' = 'function'
       AND NOT EXISTS (SELECT FROM pg_proc AS p
                        WHERE p.proname = t.token ->> 'v' AND p.pronamespace = 'pg_catalog'::regnamespace)
$$;
COMMENT ON FUNCTION peer_internal.missing_function(jsonb) IS
    'A function that the expression calls and that this version of PostgreSQL does not have, or NULL.';

CREATE OR REPLACE FUNCTION peer_internal.column_sql(c jsonb, place text) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reference jsonb := c -> 'type';
    type text := peer_internal.type_sql(reference, place);
    result text := '';
BEGIN
    IF peer_internal.is_local_type(peer_internal.resolve_type(reference - 'array' || '{"array": false}')) THEN
        PERFORM peer_internal.refuse_description('PGS04', place,
            format('values of type %s mean something in one database only', type), 'Change the type of the column on the peer.');
    END IF;
    IF c -> 'generated' = '[]' OR peer_internal.missing_function(nullif(c -> 'generated', 'null')) IS NOT NULL THEN
        PERFORM peer_internal.refuse_description('PGS07', place,
            format('the generated column %I uses what does not travel or does not exist here', c ->> 'name'),
            'Create the table by hand as it is on the peer, then join again.');
    ELSIF c -> 'generated' <> 'null' THEN
        result := format(' GENERATED ALWAYS AS %s %s', peer_internal.expression_sql(c -> 'generated', place || '.generated'),
                         CASE WHEN c -> 'virtual' = 'true' AND current_setting('server_version_num')::int >= 180000
                              THEN 'VIRTUAL' ELSE 'STORED' END);
    ELSIF c -> 'identity' <> 'null' THEN
        result := format(' GENERATED %s AS IDENTITY', upper(c ->> 'identity'));
    ELSIF c -> 'default' = '{"serial": true}' THEN
        -- the word is no type: PostgreSQL makes a sequence of the column's own, whose name is free here
        type := CASE type WHEN 'smallint' THEN 'smallserial' WHEN 'integer' THEN 'serial' WHEN 'bigint' THEN 'bigserial' END;
        IF type IS NULL THEN
            PERFORM peer_internal.refuse_description('PGS01', place, 'a serial column is no integer', NULL);
        END IF;
    ELSIF jsonb_typeof(c -> 'default') = 'array' AND peer_internal.missing_function(c -> 'default') IS NULL THEN
        result := ' DEFAULT ' || peer_internal.expression_sql(c -> 'default', place || '.default');
    END IF;
    RETURN format('%I %s%s%s%s', c ->> 'name', type, peer_internal.collation_sql(coalesce(c -> 'collation', 'null'), place),
                  result, CASE WHEN (c ->> 'not_null')::boolean THEN ' NOT NULL' END);
END
$$;
COMMENT ON FUNCTION peer_internal.column_sql(jsonb, text) IS
    'SQL text of a described column. A default that calls a function which this version of PostgreSQL does not have is left out: '
    'the values travel with the rows.';

CREATE OR REPLACE FUNCTION peer_internal.column_names_sql(names jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(quote_ident(n.name), ', ' ORDER BY n.place) FROM jsonb_array_elements_text(names) WITH ORDINALITY AS n(name, place)
$$;
COMMENT ON FUNCTION peer_internal.column_names_sql(jsonb) IS 'SQL text of a list of column names.';

CREATE OR REPLACE FUNCTION peer_internal.deferrable_sql(item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN (item ->> 'deferrable')::boolean THEN ' DEFERRABLE' ELSE '' END
        || CASE WHEN (item ->> 'initially_deferred')::boolean THEN ' INITIALLY DEFERRED' ELSE '' END
$$;
COMMENT ON FUNCTION peer_internal.deferrable_sql(jsonb) IS 'The DEFERRABLE clause of a described constraint.';

CREATE OR REPLACE FUNCTION peer_internal.index_sql(x jsonb, target text, place text) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts text[] := '{}';
    c jsonb;
BEGIN
    FOR c IN SELECT jsonb_array_elements(x -> 'columns') LOOP
        IF c ? 'operator_class' AND c -> 'operator_class' <> 'null' AND NOT EXISTS (
               SELECT FROM pg_opclass AS o
                 JOIN pg_am AS a ON a.oid = o.opcmethod
                WHERE o.opcname = c ->> 'operator_class' AND o.opcnamespace = 'pg_catalog'::regnamespace AND a.amname = x ->> 'method') THEN
            PERFORM peer_internal.refuse_description('PGS04', place,
                format('the operator class %I does not exist here', c ->> 'operator_class'), NULL);
        END IF;
        parts := parts || (
            CASE WHEN c ? 'column' THEN quote_ident(c ->> 'column') ELSE peer_internal.expression_sql(c -> 'expression', place) END
            || peer_internal.collation_sql(coalesce(c -> 'collation', 'null'), place)
            || coalesce(' pg_catalog.' || quote_ident(c ->> 'operator_class'), '')
            || CASE WHEN x ->> 'method' <> 'btree' THEN ''
                    ELSE CASE WHEN (c ->> 'descending')::boolean THEN ' DESC' ELSE ' ASC' END
                      || CASE WHEN (c ->> 'nulls_first')::boolean THEN ' NULLS FIRST' ELSE ' NULLS LAST' END END);
    END LOOP;
    RETURN format('CREATE %sINDEX %I ON %s USING %s (%s)%s%s%s', CASE WHEN (x ->> 'unique')::boolean THEN 'UNIQUE ' END, x ->> 'name',
        target, x ->> 'method', array_to_string(parts, ', '),
        ' INCLUDE (' || peer_internal.column_names_sql(nullif(x -> 'include', '[]')) || ')',
        peer_internal.nulls_not_distinct_sql(x, place),
        ' WHERE ' || peer_internal.expression_sql(nullif(x -> 'predicate', 'null'), place || '.predicate'));
END
$$;
COMMENT ON FUNCTION peer_internal.index_sql(jsonb, text, text) IS 'SQL text of a described index on the table target (a quoted name).';

CREATE OR REPLACE FUNCTION peer_internal.nulls_not_distinct_sql(item jsonb, place text) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT (item ->> 'nulls_not_distinct')::boolean THEN
        RETURN '';
    ELSIF current_setting('server_version_num')::int < 150000 THEN
        PERFORM peer_internal.refuse_description('PGS07', place, 'NULLS NOT DISTINCT needs PostgreSQL 15 or newer',
                                                 'Upgrade this PostgreSQL, or remove the constraint on the peer.');
    END IF;
    RETURN ' NULLS NOT DISTINCT';
END
$$;
COMMENT ON FUNCTION peer_internal.nulls_not_distinct_sql(jsonb, text) IS 'The NULLS NOT DISTINCT clause of a described constraint or index.';

REVOKE ALL ON FUNCTION peer_internal.collation_sql(jsonb, text), peer_internal.expression_sql(jsonb, text),
    peer_internal.missing_function(jsonb), peer_internal.column_sql(jsonb, text), peer_internal.column_names_sql(jsonb),
    peer_internal.deferrable_sql(jsonb), peer_internal.index_sql(jsonb, text, text),
    peer_internal.nulls_not_distinct_sql(jsonb, text) FROM PUBLIC;
