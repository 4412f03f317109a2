-- The whole description of a table, member by member. What passes here is well formed; whether types, collations and operator
-- classes exist in this database shows when the table is created.

CREATE OR REPLACE FUNCTION peer_internal.check_types(types jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named CONSTANT jsonb := '{"kind": "enum|domain|other", "schema": "identifier", "name": "identifier"}';
    type record;
    item record;
    place text;
BEGIN
    FOR type IN SELECT t.item, t.number FROM jsonb_array_elements(types) WITH ORDINALITY AS t(item, number) LOOP
        place := format('types[%s]', type.number);
        CASE coalesce(type.item ->> 'kind', '')
            WHEN 'extension' THEN
                PERFORM peer_internal.check_members(type.item,
                    '{"kind": "extension", "extension": "identifier", "name": "identifier"}', '{}', place);
            WHEN 'enum' THEN
                PERFORM peer_internal.check_members(type.item, named || '{"schema": "schema", "labels": "labels"}', '{}', place);
            WHEN 'domain' THEN
                PERFORM peer_internal.check_members(type.item, named || '{"schema": "schema", "base": "type", "not_null": "boolean",
                    "collation": "collation?", "default": "domain tokens?", "checks": "array"}', '{}', place);
                FOR item IN SELECT c.item, c.number
                              FROM jsonb_array_elements(type.item -> 'checks') WITH ORDINALITY AS c(item, number) LOOP
                    PERFORM peer_internal.check_members(item.item, '{"name": "identifier", "expression": "domain tokens"}', '{}',
                                                        format('%s.checks[%s]', place, item.number));
                END LOOP;
            ELSE
                PERFORM peer_internal.check_members(type.item, named, '{}', place);
        END CASE;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.check_types(jsonb) IS 'Refuses a malformed list of types of a table description.';

CREATE OR REPLACE FUNCTION peer_internal.check_columns(columns jsonb) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[] := '{}';
    c record;
    place text;
    item jsonb;
BEGIN
    FOR c IN SELECT x.item, x.number FROM jsonb_array_elements(columns) WITH ORDINALITY AS x(item, number) LOOP
        PERFORM peer_internal.check_identifier(c.item -> 'name', format('columns[%s].name', c.number));
        IF c.item ->> 'name' = ANY (names) THEN
            PERFORM peer_internal.refuse_description('PGS01', format('columns[%s].name', c.number), 'two columns have one name', NULL);
        END IF;
        names := names || (c.item ->> 'name');
    END LOOP;
    FOR c IN SELECT x.item, x.number FROM jsonb_array_elements(columns) WITH ORDINALITY AS x(item, number) LOOP
        place := format('columns[%s]', c.number);
        -- generated, but the peer could not say how
        item := CASE WHEN c.item -> 'generated' = '[]' THEN c.item - 'generated' ELSE c.item END;
        PERFORM peer_internal.check_members(item, '{"name": "identifier", "type": "type", "collation": "collation?",
            "not_null": "boolean", "generated": "tokens?", "virtual": "boolean?", "identity": "always|by default?"}'::jsonb
            || jsonb_build_object('default', CASE WHEN jsonb_typeof(c.item -> 'default') = 'object' THEN 'object?' ELSE 'tokens?' END),
            names, place);
        IF jsonb_typeof(c.item -> 'default') = 'object' AND c.item -> 'default' <> '{"serial": true}' THEN
            PERFORM peer_internal.refuse_description('PGS01', place || '.default', 'a default is neither serial nor an expression', NULL);
        ELSIF num_nonnulls(nullif(c.item -> 'default', 'null'), nullif(c.item -> 'generated', 'null'),
                           nullif(c.item -> 'identity', 'null')) > 1 THEN
            PERFORM peer_internal.refuse_description('PGS01', place, 'a column has more than one of default, generated and identity', NULL);
        END IF;
    END LOOP;
    RETURN names;
END
$$;
COMMENT ON FUNCTION peer_internal.check_columns(jsonb) IS 'Refuses a malformed list of columns of a table description; gives their names.';

CREATE OR REPLACE FUNCTION peer_internal.check_indexes(indexes jsonb, column_names text[]) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shape CONSTANT jsonb := '{"operator_class": "identifier?", "collation": "collation?", "descending": "boolean", "nulls_first": "boolean"}';
    x record;
    c record;
    place text;
BEGIN
    FOR x IN SELECT i.item, i.number FROM jsonb_array_elements(indexes) WITH ORDINALITY AS i(item, number) LOOP
        place := format('indexes[%s]', x.number);
        PERFORM peer_internal.check_members(x.item, '{"name": "identifier", "unique": "boolean",
            "method": "btree|hash|gin|gist|spgist|brin", "columns": "array", "include": "some columns", "predicate": "tokens?",
            "nulls_not_distinct": "boolean"}', column_names, place);
        IF jsonb_array_length(x.item -> 'columns') NOT BETWEEN 1 AND 32 THEN
            PERFORM peer_internal.refuse_description('PGS01', place || '.columns', 'an index has no column or more than 32', NULL);
        END IF;
        FOR c IN SELECT e.item, e.number FROM jsonb_array_elements(x.item -> 'columns') WITH ORDINALITY AS e(item, number) LOOP
            PERFORM peer_internal.check_members(c.item, shape || CASE WHEN c.item ? 'expression' THEN '{"expression": "tokens"}'
                                                                     ELSE '{"column": "column"}' END::jsonb,
                                                column_names, format('%s.columns[%s]', place, c.number));
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.check_indexes(jsonb, text[]) IS 'Refuses a malformed list of indexes of a table description.';

CREATE OR REPLACE FUNCTION peer_internal.check_foreign_keys(foreign_keys jsonb, column_names text[]) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    actions CONSTANT text := 'no action|restrict|cascade|set null|set default';
    f record;
    c record;
    place text;
BEGIN
    FOR f IN SELECT x.item, x.number FROM jsonb_array_elements(foreign_keys) WITH ORDINALITY AS x(item, number) LOOP
        place := format('foreign_keys[%s]', f.number);
        PERFORM peer_internal.check_members(f.item, '{"name": "identifier", "columns": "columns", "references": "object",
            "match": "simple|full", "deferrable": "boolean", "initially_deferred": "boolean", "on_delete_columns": "some columns?"}'::jsonb
            || jsonb_build_object('on_update', actions, 'on_delete', actions), column_names, place);
        PERFORM peer_internal.check_members(f.item -> 'references', '{"schema": "schema", "name": "identifier", "columns": "array"}',
                                            column_names, place || '.references');
        FOR c IN SELECT x.item, x.number
                   FROM jsonb_array_elements(f.item -> 'references' -> 'columns') WITH ORDINALITY AS x(item, number) LOOP
            PERFORM peer_internal.check_identifier(c.item, format('%s.references.columns[%s]', place, c.number));
        END LOOP;
        IF jsonb_array_length(f.item -> 'columns') <> jsonb_array_length(f.item -> 'references' -> 'columns') THEN
            PERFORM peer_internal.refuse_description('PGS01', place, 'a foreign key has unequal numbers of columns', NULL);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.check_foreign_keys(jsonb, text[]) IS 'Refuses a malformed list of foreign keys of a table description.';

CREATE OR REPLACE FUNCTION peer_internal.check_description(description jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key CONSTANT jsonb := '{"name": "identifier", "columns": "columns", "deferrable": "boolean", "initially_deferred": "boolean"}';
    names text[];
    item record;
BEGIN
    IF jsonb_typeof(description) IS DISTINCT FROM 'object' THEN
        PERFORM peer_internal.refuse_description('PGS01', 'the top', 'it is no object', NULL);
    ELSIF octet_length(description::text) > 4194304 THEN
        PERFORM peer_internal.refuse_description('PGS01', 'the top', 'it is larger than 4 MiB', NULL);
    ELSIF description -> 'version' IS DISTINCT FROM '1' THEN
        PERFORM peer_internal.refuse_description('PGS01', 'version', 'its version is not 1', 'Install the same version of pgpeer on both peers.');
    END IF;
    PERFORM peer_internal.check_members(description, '{"version": "integer", "schema": "schema", "name": "identifier",
        "columns": "array", "primary_key": "object?", "unique": "array", "checks": "array", "foreign_keys": "array",
        "indexes": "array", "types": "array", "omitted": "array"}', '{}', 'the top');
    names := peer_internal.check_columns(description -> 'columns');
    PERFORM peer_internal.check_types(description -> 'types');
    IF description -> 'primary_key' <> 'null' THEN
        PERFORM peer_internal.check_members(description -> 'primary_key', key, names, 'primary_key');
    END IF;
    FOR item IN SELECT x.item, x.number FROM jsonb_array_elements(description -> 'unique') WITH ORDINALITY AS x(item, number) LOOP
        PERFORM peer_internal.check_members(item.item, key || '{"nulls_not_distinct": "boolean"}', names, format('unique[%s]', item.number));
    END LOOP;
    FOR item IN SELECT x.item, x.number FROM jsonb_array_elements(description -> 'checks') WITH ORDINALITY AS x(item, number) LOOP
        PERFORM peer_internal.check_members(item.item, '{"name": "identifier", "expression": "tokens", "not_valid": "boolean?"}', names,
                                            format('checks[%s]', item.number));
    END LOOP;
    PERFORM peer_internal.check_foreign_keys(description -> 'foreign_keys', names);
    PERFORM peer_internal.check_indexes(description -> 'indexes', names);
    FOR item IN SELECT x.item, x.number FROM jsonb_array_elements(description -> 'omitted') WITH ORDINALITY AS x(item, number) LOOP
        IF jsonb_typeof(item.item) <> 'object' OR octet_length(item.item::text) > 4096 THEN
            PERFORM peer_internal.refuse_description('PGS01', format('omitted[%s]', item.number), 'an omission is no short object', NULL);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.check_description(jsonb) IS
    'Refuses a description of a table that is malformed: PGS01 shape or limit, PGS02 name or reserved schema, PGS03 expression.';

REVOKE ALL ON FUNCTION peer_internal.check_types(jsonb), peer_internal.check_columns(jsonb), peer_internal.check_indexes(jsonb, text[]),
    peer_internal.check_foreign_keys(jsonb, text[]), peer_internal.check_description(jsonb) FROM PUBLIC;
