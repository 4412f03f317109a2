-- The shape of a table description, checked before anything is made of it. Descriptions come from other peers: every member is
-- known, of the right type and within its limit, or the whole description is refused (PGS01 shape, PGS02 name, PGS03 expression).

CREATE OR REPLACE FUNCTION peer_internal.check_identifier(value jsonb, place text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF jsonb_typeof(value) IS DISTINCT FROM 'string' THEN
        PERFORM peer_internal.refuse_description('PGS01', place, 'a name is missing or not a text', NULL);
    ELSIF octet_length(value #>> '{}') NOT BETWEEN 1 AND 63 THEN
        PERFORM peer_internal.refuse_description('PGS02', place, 'a name has no character or more than 63 bytes', NULL);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.check_identifier(jsonb, text) IS
    'Refuses what is no name. A name that PostgreSQL would cut is refused too: it could meet another one.';

CREATE OR REPLACE FUNCTION peer_internal.check_tokens(tokens jsonb, column_names text[], of_domain boolean, place text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    token jsonb;
    kind text;
    word text;
    previous_kind text := 'start';
    previous text := '';
    before text := '';
    ended boolean := false;     -- whether the tokens so far end in a value, after which no other value may begin
    expected text := '';        -- the closing brackets that are still due, innermost first
    problem text;
BEGIN
    IF jsonb_typeof(tokens) IS DISTINCT FROM 'array' OR jsonb_array_length(tokens) NOT BETWEEN 1 AND 4096 THEN
        PERFORM peer_internal.refuse_description('PGS01', place, 'an expression is no list of 1 to 4096 tokens', NULL);
    END IF;
    FOR token IN SELECT jsonb_array_elements(tokens) LOOP
        kind := CASE WHEN jsonb_typeof(token) = 'object' AND jsonb_typeof(token -> 'k') = 'string' THEN token ->> 'k' END;
        IF kind IS NULL OR NOT token ? 'v' OR token - 'k' - 'v' <> '{}' THEN
            PERFORM peer_internal.refuse_description('PGS01', place, 'a token is no object of kind and value', NULL);
        ELSIF kind = 'type' THEN
            PERFORM peer_internal.check_members(token -> 'v', '{"type": "type"}', column_names, place);
        ELSIF kind = 'collation' THEN
            PERFORM peer_internal.check_members(token -> 'v', '{"schema": "identifier", "name": "identifier"}', column_names, place);
        ELSIF jsonb_typeof(token -> 'v') <> 'string' OR octet_length(token ->> 'v') > 65536 THEN
            PERFORM peer_internal.refuse_description('PGS01', place, 'a token is no text of at most 65536 bytes', NULL);
        END IF;
        word := token ->> 'v';
        problem := CASE
            WHEN previous = '::' AND previous_kind = 'punctuation' AND kind <> 'type' THEN 'a cast names no type'
            WHEN previous_kind = 'function' AND NOT (kind = 'punctuation' AND word = '(') THEN 'a function has no arguments'
            WHEN previous_kind = 'keyword' AND previous = 'COLLATE' AND kind <> 'collation' THEN 'a collation is missing'
            ELSE CASE kind
                WHEN 'column' THEN
                    CASE WHEN NOT word = ANY (column_names) THEN 'it uses an unknown column' WHEN ended THEN 'a value follows a value' END
                WHEN 'function' THEN
                    CASE WHEN NOT peer_internal.is_expression_function(word) THEN format('it calls the function %s', quote_ident(word))
                         WHEN ended THEN 'a value follows a value' END
                WHEN 'keyword' THEN
                    CASE WHEN NOT peer_internal.is_expression_keyword(word) OR word = 'VALUE' AND NOT of_domain
                         THEN format('it uses the word %s', quote_ident(word))
                         WHEN ended AND peer_internal.is_value_keyword(word) THEN 'a value follows a value' END
                WHEN 'operator' THEN
                    CASE WHEN NOT peer_internal.is_expression_operator(word) THEN format('it uses the operator %L', word) END
                WHEN 'number' THEN
                    CASE WHEN word !~ E'^[0-9]+(\\.[0-9]+)?$' THEN 'a number is malformed' WHEN ended THEN 'a value follows a value' END
                WHEN 'bits' THEN
                    CASE WHEN word !~ '^[01]*$' THEN 'a bit string is malformed' WHEN ended THEN 'a value follows a value' END
                WHEN 'string' THEN CASE WHEN ended THEN 'a value follows a value' END
                WHEN 'name' THEN
                    CASE WHEN NOT (before = 'EXTRACT' AND previous = '(' AND peer_internal.is_extract_field(word)) THEN 'a name is out of place' END
                WHEN 'type' THEN CASE WHEN previous <> '::' OR previous_kind <> 'punctuation' THEN 'a type is out of place' END
                WHEN 'collation' THEN
                    CASE WHEN previous <> 'COLLATE' OR previous_kind <> 'keyword' THEN 'a collation is out of place' END
                WHEN 'punctuation' THEN CASE word
                    -- a bracket behind a value would be a call, a modifier or an alias; only behind CURRENT_TIMESTAMP it is a precision
                    WHEN '(' THEN CASE WHEN ended AND NOT (previous_kind = 'keyword' AND previous ~ 'TIME') THEN 'a bracket follows a value' END
                    WHEN '[' THEN CASE WHEN NOT (previous_kind = 'column' OR previous IN ('ARRAY', ')', ']', '[', ','))
                                         OR previous_kind = 'string' THEN 'a bracket is out of place' END
                    WHEN ')' THEN CASE WHEN left(expected, 1) <> ')' THEN 'brackets do not match' END
                    WHEN ']' THEN CASE WHEN left(expected, 1) <> ']' THEN 'brackets do not match' END
                    WHEN ',' THEN CASE WHEN expected = '' THEN 'a comma is out of place' END
                    WHEN '::' THEN CASE WHEN NOT ended THEN 'a cast follows no value' END
                    ELSE 'it holds unknown punctuation' END
                ELSE 'it holds a token of unknown kind' END
            END;
        IF problem IS NOT NULL THEN
            PERFORM peer_internal.refuse_description('PGS03', place, 'an expression is refused, ' || problem, NULL);
        END IF;
        expected := CASE WHEN kind <> 'punctuation' THEN expected
                         WHEN word = '(' THEN ')' || expected
                         WHEN word = '[' THEN ']' || expected
                         WHEN word IN (')', ']') THEN substr(expected, 2)
                         ELSE expected END;
        ended := kind IN ('column', 'number', 'bits', 'string', 'type', 'collation', 'name')
              OR kind = 'punctuation' AND word IN (')', ']')
              OR kind = 'keyword' AND (peer_internal.is_value_keyword(word) OR word = 'END');
        before := previous;
        previous := word;
        previous_kind := kind;
    END LOOP;
    IF expected <> '' OR previous_kind IN ('operator', 'function') OR previous IN ('::', 'COLLATE') AND NOT ended THEN
        PERFORM peer_internal.refuse_description('PGS03', place, 'an expression is refused, it is not complete', NULL);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.check_tokens(jsonb, text[], boolean, text) IS
    'Refuses (PGS03) a token list that holds anything but columns of the table, literals, operators of pg_catalog, functions and '
    'keywords on the lists, and casts, or whose brackets do not match: nothing can close the bracket around the expression.';

CREATE OR REPLACE FUNCTION peer_internal.check_members(value jsonb, shape jsonb, column_names text[], place text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    member record;
    kind text;
    item jsonb;
    problem text;
BEGIN
    IF shape = '{"type": "type"}' THEN
        IF jsonb_typeof(value -> 'schema') = 'string' AND value ->> 'schema' <> 'pg_catalog'
           AND peer_internal.is_reserved_schema(value ->> 'schema') THEN
            PERFORM peer_internal.refuse_description('PGS02', place, format('the schema %I is reserved', value ->> 'schema'), NULL);
        END IF;
        shape := CASE WHEN value ? 'extension' THEN '{"extension": "identifier"}' ELSE '{"schema": "identifier"}' END::jsonb
              || '{"name": "identifier", "modifier": "integer", "array": "boolean"}';
    END IF;
    IF jsonb_typeof(value) IS DISTINCT FROM 'object' THEN
        PERFORM peer_internal.refuse_description('PGS01', place, 'an object is missing', NULL);
    END IF;
    FOR member IN SELECT k.name FROM jsonb_object_keys(value) AS k(name) WHERE NOT shape ? k.name LOOP
        PERFORM peer_internal.refuse_description('PGS01', place, format('the member %s is not known', quote_ident(left(member.name, 63))), NULL);
    END LOOP;
    FOR member IN SELECT s.key AS name, s.value AS kind FROM jsonb_each_text(shape) AS s ORDER BY s.key COLLATE "C" LOOP
        item := value -> member.name;
        kind := member.kind;
        IF right(kind, 1) = '?' THEN
            CONTINUE WHEN item IS NULL OR item = 'null';
            kind := left(kind, -1);
        ELSIF item IS NULL THEN
            PERFORM peer_internal.refuse_description('PGS01', place, format('the member %s is missing', member.name), NULL);
        END IF;
        problem := NULL;
        CASE kind
            WHEN 'identifier' THEN
                PERFORM peer_internal.check_identifier(item, place || '.' || member.name);
            WHEN 'schema' THEN
                PERFORM peer_internal.check_identifier(item, place || '.' || member.name);
                IF peer_internal.is_reserved_schema(item #>> '{}') THEN
                    PERFORM peer_internal.refuse_description('PGS02', place || '.' || member.name,
                        format('the schema %s is reserved', quote_ident(item #>> '{}')), NULL);
                END IF;
            WHEN 'boolean' THEN
                problem := CASE WHEN jsonb_typeof(item) <> 'boolean' THEN 'is not true or false' END;
            WHEN 'integer' THEN
                problem := CASE WHEN jsonb_typeof(item) <> 'number' OR item::text !~ '^-?[0-9]{1,10}$'
                                  OR item::numeric NOT BETWEEN -2147483648 AND 2147483647 THEN 'is not an integer' END;
            WHEN 'array' THEN
                problem := CASE WHEN jsonb_typeof(item) <> 'array' OR jsonb_array_length(item) > 1600
                                THEN 'is no list of at most 1600 items' END;
            WHEN 'labels' THEN
                problem := CASE WHEN jsonb_typeof(item) <> 'array' OR jsonb_array_length(item) > 10000
                                THEN 'is no list of at most 10000 labels'
                                WHEN EXISTS (SELECT FROM jsonb_array_elements(item) AS l(label)
                                              WHERE jsonb_typeof(l.label) <> 'string' OR octet_length(l.label #>> '{}') NOT BETWEEN 0 AND 63)
                                THEN 'holds what is no text of at most 63 bytes' END;
            WHEN 'columns', 'some columns' THEN
                problem := CASE WHEN jsonb_typeof(item) <> 'array' THEN 'is no list of columns'
                                WHEN jsonb_array_length(item) > 32 OR kind = 'columns' AND item = '[]' THEN 'has no column or more than 32'
                                WHEN EXISTS (SELECT FROM jsonb_array_elements(item) AS c(name)
                                              WHERE jsonb_typeof(c.name) <> 'string' OR NOT (c.name #>> '{}') = ANY (column_names))
                                THEN 'names a column that the table does not have'
                                WHEN (SELECT count(*) > count(DISTINCT c.name) FROM jsonb_array_elements(item) AS c(name))
                                THEN 'names a column twice' END;
            WHEN 'column' THEN
                problem := CASE WHEN jsonb_typeof(item) <> 'string' OR NOT (item #>> '{}') = ANY (column_names)
                                THEN 'names a column that the table does not have' END;
            WHEN 'tokens' THEN
                PERFORM peer_internal.check_tokens(item, column_names, false, place || '.' || member.name);
            WHEN 'domain tokens' THEN
                PERFORM peer_internal.check_tokens(item, '{}', true, place || '.' || member.name);
            WHEN 'type' THEN
                PERFORM peer_internal.check_members(item, '{"type": "type"}', column_names, place || '.' || member.name);
            WHEN 'collation' THEN
                PERFORM peer_internal.check_members(item, '{"schema": "identifier", "name": "identifier"}', column_names,
                                                    place || '.' || member.name);
            WHEN 'object' THEN
                problem := CASE WHEN jsonb_typeof(item) <> 'object' THEN 'is no object' END;
            ELSE    -- the words that are allowed, separated by |
                problem := CASE WHEN jsonb_typeof(item) <> 'string' OR NOT (item #>> '{}') = ANY (string_to_array(kind, '|'))
                                THEN format('is not one of %s', replace(kind, '|', ', ')) END;
        END CASE;
        IF problem IS NOT NULL THEN
            PERFORM peer_internal.refuse_description('PGS01', place || '.' || member.name, member.name || ' ' || problem, NULL);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.check_members(jsonb, jsonb, text[], text) IS
    'Refuses an object that does not have exactly the members of shape {"name": kind}. A kind ending in ? may be null or absent.';

REVOKE ALL ON FUNCTION peer_internal.check_identifier(jsonb, text), peer_internal.check_tokens(jsonb, text[], boolean, text),
    peer_internal.check_members(jsonb, jsonb, text[], text) FROM PUBLIC;
