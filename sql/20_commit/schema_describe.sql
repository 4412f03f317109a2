-- The description of a table: a jsonb document from which a peer can create the same table, and never SQL text. It is equal,
-- byte for byte, on PostgreSQL 14 to 18 for the same table. Constraints and indexes: schema_describe_parts.sql.

CREATE OR REPLACE FUNCTION peer_internal.is_serial(relation oid, number int2) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- the default calls nextval on a sequence that belongs to this very column: what serial makes
    SELECT EXISTS (SELECT
                     FROM pg_attrdef AS d
                     JOIN pg_depend AS uses ON uses.classid = 'pg_attrdef'::regclass AND uses.objid = d.oid
                                           AND uses.refclassid = 'pg_class'::regclass
                     JOIN pg_depend AS owned ON owned.classid = 'pg_class'::regclass AND owned.objid = uses.refobjid
                                            AND owned.refclassid = 'pg_class'::regclass AND owned.refobjid = d.adrelid
                                            AND owned.refobjsubid = d.adnum AND owned.deptype = 'a'
                     JOIN pg_class AS s ON s.oid = uses.refobjid AND s.relkind = 'S'
                     JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                    WHERE d.adrelid = is_serial.relation AND d.adnum = is_serial.number
                      AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
                      AND pg_get_expr(d.adbin, d.adrelid) ~ E'^nextval\\(''(?:[^'']|'''')*''::regclass\\)$')
$$;
COMMENT ON FUNCTION peer_internal.is_serial(oid, int2) IS 'Whether the default of this column is the next value of a sequence of its own.';

CREATE OR REPLACE FUNCTION peer_internal.describe_columns(relation oid) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[] := peer_internal.column_names(relation);
    items jsonb := '[]';
    omitted jsonb := '[]';
    item jsonb;
    tokens jsonb;
    c record;
BEGIN
    FOR c IN SELECT a.attname, a.attnum, a.atttypid, a.atttypmod, a.attcollation, a.attnotnull, a.attidentity, a.attgenerated,
                    t.typcollation, d.adbin
               FROM pg_attribute AS a
               JOIN pg_type AS t ON t.oid = a.atttypid
               LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
              WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum LOOP
        item := jsonb_build_object(
            'name', c.attname,
            'type', peer_internal.type_reference(c.atttypid, c.atttypmod),
            'collation', peer_internal.collation_reference(c.attcollation, c.typcollation),
            'not_null', c.attnotnull,
            'default', NULL,
            'generated', NULL,
            'identity', CASE c.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END);
        IF peer_internal.is_serial(relation, c.attnum) THEN
            item := item || '{"default": {"serial": true}}';
        ELSIF c.adbin IS NOT NULL THEN
            tokens := peer_internal.describe_expression(c.adbin, relation, names);
            IF jsonb_typeof(tokens) = 'object' THEN
                omitted := omitted || jsonb_build_object(
                    'kind', CASE c.attgenerated WHEN '' THEN 'default' ELSE 'generated' END,
                    'name', c.attname, 'reason', tokens ->> 'reason');
                -- an empty list says: generated, but nobody can say how
                tokens := CASE c.attgenerated WHEN '' THEN 'null' ELSE '[]' END::jsonb;
            END IF;
            item := item || jsonb_build_object(CASE c.attgenerated WHEN '' THEN 'default' ELSE 'generated' END, tokens);
            IF c.attgenerated = 'v' THEN
                item := item || '{"virtual": true}';
            END IF;
        END IF;
        items := items || item;
    END LOOP;
    RETURN jsonb_build_object('items', items, 'omitted', omitted);
END
$$;
COMMENT ON FUNCTION peer_internal.describe_columns(oid) IS 'Describes the columns of a table: {"items": [...], "omitted": [...]}.';

CREATE OR REPLACE FUNCTION peer_internal.describe_relation(relation regclass) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    columns jsonb := peer_internal.describe_columns(relation);
    checks jsonb := peer_internal.describe_checks(relation);
    keys jsonb := peer_internal.describe_keys(relation);
    foreign_keys jsonb := peer_internal.describe_foreign_keys(relation);
    indexes jsonb := peer_internal.describe_indexes(relation);
    types jsonb;
    result jsonb;
    omitted jsonb;
BEGIN
    SELECT jsonb_build_object('version', 1, 'schema', n.nspname, 'name', c.relname)
      INTO result
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.oid = relation AND c.relkind IN ('r', 'p');
    IF result IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PGT02',
            MESSAGE = format('%s is not a table, and cannot be described', relation),
            HINT = 'Name an ordinary or partitioned table.';
    END IF;
    result := result || jsonb_build_object(
        'columns', columns -> 'items', 'primary_key', keys -> 'primary_key', 'unique', keys -> 'unique',
        'checks', checks -> 'items', 'foreign_keys', foreign_keys -> 'items', 'indexes', indexes -> 'items');
    SELECT peer_internal.describe_types(coalesce(jsonb_agg(DISTINCT r.reference), '[]'))
      INTO types
      FROM (SELECT jsonb_path_query(columns, '$.items[*].type')
            UNION ALL
            SELECT jsonb_path_query(result, 'strict $.** ? (@.k == "type").v')) AS r(reference);
    SELECT coalesce(jsonb_agg(o.item ORDER BY o.item ->> 'kind' COLLATE "C", o.item ->> 'name' COLLATE "C"), '[]')
      INTO omitted
      FROM (SELECT jsonb_array_elements(part -> 'omitted')
              FROM unnest(ARRAY[columns, keys, checks, foreign_keys, indexes]) AS p(part)
            UNION ALL
            SELECT jsonb_path_query(types, '$[*].omitted[*]')) AS o(item);
    SELECT coalesce(jsonb_agg(t.item - 'omitted' ORDER BY t.place), '[]')
      INTO types
      FROM jsonb_array_elements(types) WITH ORDINALITY AS t(item, place);
    RETURN result || jsonb_build_object('types', types, 'omitted', omitted);
END
$$;
COMMENT ON FUNCTION peer_internal.describe_relation(regclass) IS
    'A structured description of a table, never SQL text: columns, types, keys, constraints, indexes, from which '
    'peer_internal.create_relation makes the table on a peer. Expressions are token lists; what does not travel (sequences, '
    'calls of functions that are not built in, ...) is left out and named with its reason in "omitted". Triggers, policies, '
    'grants, comments, storage settings and partitions are local and never described: a peer may have the table otherwise partitioned, or not at all.';

REVOKE ALL ON FUNCTION peer_internal.is_serial(oid, int2), peer_internal.describe_columns(oid), peer_internal.describe_relation(regclass) FROM PUBLIC;
