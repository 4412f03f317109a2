-- Expressions as token lists. A default, check or index expression leaves PostgreSQL as text (pg_get_expr) and is cut here into
-- tokens of known kinds; what holds anything else is not described at all. No SQL text ever travels.
--   {"k": "column" | "function" | "keyword" | "operator" | "punctuation" | "number" | "string" | "bits" | "name", "v": text}
--   {"k": "type", "v": type reference}   {"k": "collation", "v": {"schema", "name"}}

CREATE OR REPLACE FUNCTION peer_internal.cast_type_reference(type_text text, modifier_text text) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    type oid := to_regtype(type_text);
    numbers int[] := string_to_array(modifier_text, ',')::int[];
    modifier int := -1;
BEGIN
    IF numbers IS NOT NULL THEN
        modifier := CASE
            WHEN type = 'numeric'::regtype AND numbers[1] BETWEEN 1 AND 1000 AND coalesce(numbers[2], 0) BETWEEN -1000 AND 1000
                 AND cardinality(numbers) <= 2
            THEN ((numbers[1] << 16) | (coalesce(numbers[2], 0) & 2047)) + 4
            WHEN type IN ('varchar'::regtype, 'bpchar'::regtype) AND cardinality(numbers) = 1 THEN numbers[1] + 4
            WHEN type IN ('bit'::regtype, 'varbit'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype,
                          'timestamptz'::regtype) AND cardinality(numbers) = 1 THEN numbers[1]
        END;
    END IF;
    IF type IS NULL OR modifier IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN peer_internal.type_reference(type, modifier);
END
$$;
COMMENT ON FUNCTION peer_internal.cast_type_reference(text, text) IS
    'The reference of a type as pg_get_expr writes it, its modifier given apart ("10,2"). NULL when it is not known.';

CREATE OR REPLACE FUNCTION peer_internal.cast_type_problem(reference jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    type oid := peer_internal.resolve_type(reference);
    kind "char" := (SELECT t.typtype FROM pg_type AS t
                     WHERE t.oid = peer_internal.resolve_type(reference - 'array' || '{"array": false}'));
BEGIN
    IF type IS NULL THEN
        RETURN 'it casts to a type that is not known';
    ELSIF reference ->> 'schema' = 'pg_catalog' THEN
        -- text search configurations are names, and to_tsvector needs them
        IF peer_internal.is_local_type(peer_internal.resolve_type(reference - 'array' || '{"array": false}'))
           AND NOT type IN ('regconfig'::regtype, 'regdictionary'::regtype) THEN
            RETURN format('it casts to %s, which means something in one database only', format_type(type, NULL));
        END IF;
    ELSIF reference ? 'extension' OR kind NOT IN ('e', 'd') THEN
        RETURN format('it casts to %s, which is neither built in, nor an enum, nor a domain', format_type(type, NULL));
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION peer_internal.cast_type_problem(jsonb) IS 'Why an expression may not cast to this type, or NULL.';

CREATE OR REPLACE FUNCTION peer_internal.tokenize_expression(expression text, column_names text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    identifier CONSTANT text := '(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")';
    rest text := ltrim(expression, E' \t\r\n');
    tokens jsonb[] := '{}';
    m text[];
    word text;
    kind text;
    value jsonb;
    used int;
    previous text;
    problem text;
BEGIN
    IF length(expression) > 65536 THEN
        RETURN jsonb_build_object('reason', 'it is longer than 65536 characters');
    END IF;
    WHILE rest <> '' LOOP
        previous := CASE WHEN tokens = '{}' THEN '' ELSE tokens[cardinality(tokens)] ->> 'v' END;
        word := NULL;
        problem := NULL;
        IF previous = '::' THEN
            -- a type name may be several words, and its modifier stands in their middle: timestamp(3) with time zone
            m := regexp_match(rest, '^(character varying|bit varying|double precision|' || identifier || E'(?:\\.' || identifier
                                 || E')?)(?:\\((-?\\d{1,5}(?:,-?\\d{1,5})?)\\))?( with(?:out)? time zone)?((?:\\[\\])*)');
            IF m IS NULL THEN
                RETURN jsonb_build_object('reason', format('it is not understood at %L', left(rest, 40)));
            END IF;
            used := length(m[1]) + coalesce(length(m[2]) + 2, 0) + coalesce(length(m[3]), 0) + length(m[4]);
            kind := 'type';
            value := peer_internal.cast_type_reference(m[1] || coalesce(m[3], ''), m[2]);
            IF m[4] <> '' AND value IS NOT NULL THEN
                value := value || '{"array": true}';
            END IF;
            problem := CASE WHEN value IS NULL THEN format('it casts to a type that is not understood, %L', left(rest, 40))
                            ELSE peer_internal.cast_type_problem(value) END;
        ELSIF previous = 'COLLATE' THEN
            m := regexp_match(rest, '^(?:(' || identifier || E')\\.)?(' || identifier || ')');
            IF m IS NULL THEN
                RETURN jsonb_build_object('reason', format('it is not understood at %L', left(rest, 40)));
            END IF;
            used := length(m[2]) + coalesce(length(m[1]) + 1, 0);
            kind := 'collation';
            value := jsonb_build_object('schema', (parse_ident(coalesce(m[1], 'pg_catalog')))[1], 'name', (parse_ident(m[2]))[1]);
        ELSIF rest ~ '^''' THEN
            word := (regexp_match(rest, '^''((?:[^'']|'''')*)'''))[1];
            kind := 'string';
            used := length(word) + 2;
            value := to_jsonb(replace(word, '''''', ''''));
        ELSIF rest ~ '^B''[01]*''' THEN
            word := (regexp_match(rest, '^B''([01]*)'''))[1];
            kind := 'bits';
            used := length(word) + 3;
            value := to_jsonb(word);
        ELSIF rest ~ E'^\\d' THEN
            word := (regexp_match(rest, E'^\\d+(?:\\.\\d+)?'))[1];
            kind := 'number';
            used := length(word);
            value := to_jsonb(word);
        ELSIF rest ~ '^(::|[][(),])' THEN
            word := (regexp_match(rest, '^(?:::|[][(),])'))[1];
            kind := 'punctuation';
            used := length(word);
            value := to_jsonb(word);
        ELSIF rest ~ '^[-+*/<>=~!@#%^&|`?]' THEN
            word := (regexp_match(rest, '^[-+*/<>=~!@#%^&|`?]+'))[1];
            kind := 'operator';
            used := length(word);
            value := to_jsonb(word);
            problem := CASE WHEN NOT peer_internal.is_expression_operator(word) THEN format('it uses the operator %s', word) END;
        ELSIF rest ~ '^[A-Z]' OR rest ~ E'^(true|false)\\M(?!\\()' THEN
            word := (regexp_match(rest, '^[A-Za-z_0-9]+'))[1];
            kind := 'keyword';
            used := length(word);
            value := to_jsonb(upper(word));
            problem := CASE WHEN NOT peer_internal.is_expression_keyword(upper(word)) THEN format('it uses %s', word) END;
        ELSE
            word := (regexp_match(rest, '^' || identifier))[1];
            IF word IS NULL THEN
                RETURN jsonb_build_object('reason', format('it is not understood at %L', left(rest, 40)));
            END IF;
            used := length(word);
            value := to_jsonb((parse_ident(word))[1]);
            IF substr(rest, used + 1, 1) = '.' THEN
                problem := format('it uses %s, which is not built in',
                                  (regexp_match(rest, '^' || identifier || E'(?:\\.' || identifier || ')*'))[1]);
            ELSIF substr(rest, used + 1, 1) = '(' THEN
                kind := 'function';
                problem := CASE WHEN NOT peer_internal.is_expression_function(value #>> '{}')
                                THEN format('it calls %s, which is not on the list of functions that may travel', value #>> '{}') END;
            ELSIF cardinality(tokens) > 1 AND tokens[cardinality(tokens) - 1] ->> 'v' = 'EXTRACT' AND previous = '(' THEN
                kind := 'name';
                problem := CASE WHEN NOT peer_internal.is_extract_field(value #>> '{}') THEN format('it extracts %s', word) END;
            ELSE
                kind := 'column';
                problem := CASE WHEN NOT (value #>> '{}') = ANY (column_names)
                                THEN format('it uses %s, which is no column of the table', word) END;
            END IF;
        END IF;
        IF problem IS NOT NULL THEN
            RETURN jsonb_build_object('reason', problem);
        END IF;
        tokens := tokens || jsonb_build_object('k', kind, 'v', value);
        IF cardinality(tokens) > 4096 THEN
            RETURN jsonb_build_object('reason', 'it has more than 4096 tokens');
        END IF;
        rest := ltrim(substr(rest, used + 1), E' \t\r\n');
    END LOOP;
    RETURN to_jsonb(tokens);
END
$$;
COMMENT ON FUNCTION peer_internal.tokenize_expression(text, text[]) IS
    'Cuts an expression, as pg_get_expr writes it with search_path pg_catalog, into tokens: an array; or {"reason": text} when it '
    'holds something that does not travel.';

CREATE OR REPLACE FUNCTION peer_internal.describe_expression(expression pg_node_tree, relation oid, column_names text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    -- constants are written by output functions: the same text whatever the session prefers
    SET quote_all_identifiers = off SET standard_conforming_strings = on SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
    SET timezone = 'UTC' SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on
AS $$
BEGIN
    RETURN peer_internal.tokenize_expression(pg_get_expr(expression, relation), column_names);
END
$$;
COMMENT ON FUNCTION peer_internal.describe_expression(pg_node_tree, oid, text[]) IS
    'The tokens of a stored expression, or {"reason": text} when it does not travel. relation is 0 for expressions of domains.';

REVOKE ALL ON FUNCTION peer_internal.cast_type_reference(text, text), peer_internal.cast_type_problem(jsonb),
    peer_internal.tokenize_expression(text, text[]), peer_internal.describe_expression(pg_node_tree, oid, text[]) FROM PUBLIC;
