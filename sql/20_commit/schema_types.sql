-- Types in the table description: a reference names a type without object ids, so that it means the same on every peer.
--   {"schema": text, "name": text, "modifier": int, "array": boolean}
--   {"extension": text, "name": text, "modifier": int, "array": boolean}      an extension may live in any schema

CREATE OR REPLACE FUNCTION peer_internal.type_reference(type oid, modifier int) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN e.extname IS NOT NULL AND n.nspname <> 'pg_catalog'
                THEN jsonb_build_object('extension', e.extname)
                ELSE jsonb_build_object('schema', n.nspname) END
        || jsonb_build_object('name', element.typname, 'modifier', modifier, 'array', element.oid <> t.oid)
      FROM pg_type AS t
      -- int2vector and oidvector have elements too, but are no arrays: their element does not name them as its array
      JOIN pg_type AS element ON element.oid = coalesce(
               (SELECT e.oid FROM pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid), t.oid)
      JOIN pg_namespace AS n ON n.oid = element.typnamespace
      LEFT JOIN pg_depend AS d ON d.classid = 'pg_type'::regclass AND d.objid = element.oid
                              AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
      LEFT JOIN pg_extension AS e ON e.oid = d.refobjid
     WHERE t.oid = type_reference.type
$$;
COMMENT ON FUNCTION peer_internal.type_reference(oid, int) IS
    'Names a type for the table description. modifier is the typmod, -1 for none; of an array it belongs to the element.';

CREATE OR REPLACE FUNCTION peer_internal.resolve_type(reference jsonb) RETURNS oid
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT nullif(CASE WHEN (reference ->> 'array')::boolean THEN t.typarray ELSE t.oid END, 0)
      FROM pg_type AS t
      JOIN pg_namespace AS n ON n.oid = t.typnamespace
      LEFT JOIN pg_class AS c ON c.oid = t.typrelid
     WHERE t.typname = reference ->> 'name'
       AND (t.typtype <> 'c' OR c.relkind = 'c')
       AND CASE WHEN reference ? 'extension'
                THEN EXISTS (SELECT FROM pg_depend AS d
                               JOIN pg_extension AS e ON e.oid = d.refobjid
                              WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
                                AND d.refclassid = 'pg_extension'::regclass AND e.extname = reference ->> 'extension')
                ELSE n.nspname = reference ->> 'schema' END
     ORDER BY n.nspname COLLATE "C"
     LIMIT 1
$$;
COMMENT ON FUNCTION peer_internal.resolve_type(jsonb) IS 'The type that a reference names in this database, or NULL.';

CREATE OR REPLACE FUNCTION peer_internal.type_text(reference jsonb) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(
        (SELECT format_type(t.oid, (reference ->> 'modifier')::int) FROM pg_type AS t
          WHERE t.oid = peer_internal.resolve_type(reference)
            AND ((reference ->> 'modifier')::int = -1 OR t.typmodin <> 0)),
        format('%s.%I%s', coalesce(quote_ident(reference ->> 'schema'), 'extension ' || quote_ident(reference ->> 'extension')),
               reference ->> 'name', CASE WHEN (reference ->> 'array')::boolean THEN '[]' END))
$$;
COMMENT ON FUNCTION peer_internal.type_text(jsonb) IS 'A type reference as a person would write it. For messages; never for SQL.';

CREATE OR REPLACE FUNCTION peer_internal.type_sql(reference jsonb, place text) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    type oid := peer_internal.resolve_type(reference);
    modifier int := (reference ->> 'modifier')::int;
BEGIN
    IF type IS NULL THEN
        PERFORM peer_internal.refuse_description('PGS04', place,
            format('the type %s does not exist here', peer_internal.type_text(reference)),
            CASE WHEN reference ? 'extension'
                 THEN format('CREATE EXTENSION %I; then try again.', reference ->> 'extension')
                 ELSE 'Create the type as it is on the peer, then try again.' END);
    END IF;
    IF modifier <> -1 AND NOT EXISTS (SELECT FROM pg_type AS t WHERE t.oid = type AND t.typmodin <> 0) THEN
        PERFORM peer_internal.refuse_description('PGS01', place,
            format('the type %s takes no modifier', format_type(type, NULL)), NULL);
    END IF;
    -- the text comes from this server's own catalog and type output functions
    RETURN format_type(type, modifier);
END
$$;
COMMENT ON FUNCTION peer_internal.type_sql(jsonb, text) IS
    'SQL text of a type reference, made by this server from its catalog. Raises PGS04 when the type does not exist here.';

CREATE OR REPLACE FUNCTION peer_internal.collation_reference(own_collation oid, default_collation oid) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('schema', n.nspname, 'name', c.collname)
      FROM pg_collation AS c
      JOIN pg_namespace AS n ON n.oid = c.collnamespace
     WHERE c.oid = own_collation AND own_collation IS DISTINCT FROM default_collation
$$;
COMMENT ON FUNCTION peer_internal.collation_reference(oid, oid) IS 'Names a collation, or NULL when it is the default one.';

CREATE OR REPLACE FUNCTION peer_internal.describe_type(type oid) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
    reference jsonb := peer_internal.type_reference(type, -1);
    result jsonb;
    omitted jsonb := '[]';
    tokens jsonb;
    r record;
BEGIN
    SELECT x.typtype, x.typbasetype, x.typtypmod, x.typnotnull, x.typdefaultbin, x.typdefault, x.typcollation,
           format('%I.%I', n.nspname, x.typname) AS title, b.typcollation AS base_collation
      INTO STRICT t
      FROM pg_type AS x
      JOIN pg_namespace AS n ON n.oid = x.typnamespace
      LEFT JOIN pg_type AS b ON b.oid = x.typbasetype
     WHERE x.oid = type;
    IF reference ? 'extension' THEN
        RETURN jsonb_build_object('kind', 'extension', 'extension', reference -> 'extension', 'name', reference -> 'name');
    END IF;
    result := jsonb_build_object('schema', reference -> 'schema', 'name', reference -> 'name');
    IF t.typtype = 'e' THEN
        RETURN result || jsonb_build_object('kind', 'enum', 'labels',
            (SELECT coalesce(jsonb_agg(e.enumlabel ORDER BY e.enumsortorder), '[]') FROM pg_enum AS e WHERE e.enumtypid = type));
    ELSIF t.typtype <> 'd' THEN
        RETURN result || '{"kind": "other"}';
    END IF;
    result := result || jsonb_build_object(
        'kind', 'domain', 'base', peer_internal.type_reference(t.typbasetype, t.typtypmod), 'not_null', t.typnotnull,
        'collation', peer_internal.collation_reference(t.typcollation, t.base_collation), 'default', NULL, 'checks', '[]'::jsonb);
    IF t.typdefaultbin IS NOT NULL THEN
        tokens := peer_internal.describe_expression(t.typdefaultbin, 0, '{}');
        IF jsonb_typeof(tokens) = 'array' THEN
            result := result || jsonb_build_object('default', tokens);
        ELSE
            omitted := omitted || jsonb_build_object('kind', 'domain default', 'name', t.title, 'reason', tokens ->> 'reason');
        END IF;
    END IF;
    FOR r IN SELECT c.conname, c.conbin FROM pg_constraint AS c
              WHERE c.contypid = type AND c.contype = 'c' ORDER BY c.conname::text COLLATE "C" LOOP
        tokens := peer_internal.describe_expression(r.conbin, 0, '{}');
        IF jsonb_typeof(tokens) = 'array' THEN
            result := jsonb_set(result, '{checks}', (result -> 'checks')
                || jsonb_build_object('name', r.conname, 'expression', tokens));
        ELSE
            omitted := omitted || jsonb_build_object('kind', 'domain check', 'name', t.title || '.' || quote_ident(r.conname),
                                                     'reason', tokens ->> 'reason');
        END IF;
    END LOOP;
    RETURN CASE WHEN omitted = '[]' THEN result ELSE result || jsonb_build_object('omitted', omitted) END;
END
$$;
COMMENT ON FUNCTION peer_internal.describe_type(oid) IS
    'Describes an enum or domain so that a peer can create it; other types are only named.';

CREATE OR REPLACE FUNCTION peer_internal.describe_types(type_references jsonb) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE used(type, depth) AS (
        SELECT peer_internal.resolve_type(r.reference - 'array' || '{"array": false}'), 0
          FROM jsonb_array_elements(type_references) AS r(reference)
        UNION
        SELECT coalesce(nullif(t.typbasetype, 0), t.typelem), u.depth + 1
          FROM used AS u
          JOIN pg_type AS t ON t.oid = u.type
         WHERE t.typtype = 'd' OR EXISTS (SELECT FROM pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid)),
    needed AS (
        SELECT u.type, max(u.depth) AS depth, n.nspname, t.typname
          FROM used AS u
          JOIN pg_type AS t ON t.oid = u.type
          JOIN pg_namespace AS n ON n.oid = t.typnamespace
         WHERE n.nspname <> 'pg_catalog'
           AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid)
         GROUP BY u.type, n.nspname, t.typname)
    SELECT coalesce(jsonb_agg(peer_internal.describe_type(n.type)
                              ORDER BY n.depth DESC, n.nspname::text COLLATE "C", n.typname::text COLLATE "C"), '[]')
      FROM needed AS n
$$;
COMMENT ON FUNCTION peer_internal.describe_types(jsonb) IS
    'Describes every type outside pg_catalog that these references need, each once, base types before the domains over them.';

REVOKE ALL ON FUNCTION peer_internal.type_reference(oid, int), peer_internal.resolve_type(jsonb), peer_internal.type_text(jsonb),
    peer_internal.type_sql(jsonb, text), peer_internal.collation_reference(oid, oid), peer_internal.describe_type(oid),
    peer_internal.describe_types(jsonb) FROM PUBLIC;
