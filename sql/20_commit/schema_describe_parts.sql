-- The constraints and indexes in the description of a table, each list in the order of names (COLLATE "C"). Every function gives
-- {"items": [...], "omitted": [{"kind", "name", "reason"}]}. Catalog columns that not every version has are read through to_jsonb.

CREATE OR REPLACE FUNCTION peer_internal.column_names(relation oid) RETURNS text[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}')
      FROM pg_attribute AS a
     WHERE a.attrelid = column_names.relation AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION peer_internal.column_names(oid) IS 'The columns of a table in their order.';

CREATE OR REPLACE FUNCTION peer_internal.column_list(relation oid, numbers int2[]) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(a.attname ORDER BY n.place), '[]')
      FROM unnest(numbers) WITH ORDINALITY AS n(number, place)
      JOIN pg_attribute AS a ON a.attrelid = column_list.relation AND a.attnum = n.number
$$;
COMMENT ON FUNCTION peer_internal.column_list(oid, int2[]) IS 'The names of these columns, in the order given, as a jsonb array.';

CREATE OR REPLACE FUNCTION peer_internal.describe_checks(relation oid) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[] := peer_internal.column_names(relation);
    items jsonb := '[]';
    omitted jsonb := '[]';
    tokens jsonb;
    c record;
BEGIN
    FOR c IN SELECT x.conname, x.conbin, x.convalidated, to_jsonb(x) ->> 'conenforced' AS enforced
               FROM pg_constraint AS x
              WHERE x.conrelid = relation AND x.contype = 'c'
              ORDER BY x.conname::text COLLATE "C" LOOP
        tokens := CASE WHEN c.enforced = 'false' THEN '{"reason": "it is not enforced"}'
                       ELSE peer_internal.describe_expression(c.conbin, relation, names) END;
        IF jsonb_typeof(tokens) = 'object' THEN
            omitted := omitted || jsonb_build_object('kind', 'check', 'name', c.conname, 'reason', tokens ->> 'reason');
        ELSE
            items := items || (jsonb_build_object('name', c.conname, 'expression', tokens)
                               || CASE WHEN c.convalidated THEN '{}' ELSE '{"not_valid": true}' END::jsonb);
        END IF;
    END LOOP;
    RETURN jsonb_build_object('items', items, 'omitted', omitted);
END
$$;
COMMENT ON FUNCTION peer_internal.describe_checks(oid) IS 'Describes the CHECK constraints of a table.';

CREATE OR REPLACE FUNCTION peer_internal.describe_keys(relation oid) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH key AS (
        SELECT c.conname::text AS name, c.contype, coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false) AS period,
               jsonb_build_object(
                   'name', c.conname, 'columns', peer_internal.column_list(c.conrelid, c.conkey),
                   'deferrable', c.condeferrable, 'initially_deferred', c.condeferred) AS item,
               coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_not_distinct
          FROM pg_constraint AS c
          LEFT JOIN pg_index AS i ON i.indexrelid = c.conindid
         WHERE c.conrelid = describe_keys.relation AND c.contype IN ('p', 'u', 'x'))
    SELECT jsonb_build_object(
        'primary_key', (SELECT k.item FROM key AS k WHERE k.contype = 'p'),
        'unique', (SELECT coalesce(jsonb_agg(k.item || jsonb_build_object('nulls_not_distinct', k.nulls_not_distinct)
                                             ORDER BY k.name COLLATE "C"), '[]')
                     FROM key AS k WHERE k.contype = 'u' AND NOT k.period),
        'omitted', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                               'kind', CASE k.contype WHEN 'x' THEN 'exclusion' WHEN 'u' THEN 'unique' ELSE 'primary key' END,
                               'name', k.name,
                               'reason', CASE WHEN k.period THEN 'it is WITHOUT OVERLAPS'
                                              ELSE 'exclusion constraints do not travel' END)
                           ORDER BY k.name COLLATE "C"), '[]')
                      FROM key AS k WHERE k.contype = 'x' OR k.period))
$$;
COMMENT ON FUNCTION peer_internal.describe_keys(oid) IS 'Describes the primary key and the UNIQUE constraints of a table.';

CREATE OR REPLACE FUNCTION peer_internal.describe_foreign_keys(relation oid) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH key AS (
        SELECT c.conname::text AS name,
               CASE WHEN coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false) THEN 'it has a PERIOD'
                    WHEN to_jsonb(c) ->> 'conenforced' = 'false' THEN 'it is not enforced' END AS reason,
               jsonb_build_object(
                   'name', c.conname, 'columns', peer_internal.column_list(c.conrelid, c.conkey),
                   'references', jsonb_build_object('schema', n.nspname, 'name', r.relname,
                                                    'columns', peer_internal.column_list(c.confrelid, c.confkey)),
                   'on_update', a.actions ->> c.confupdtype::text, 'on_delete', a.actions ->> c.confdeltype::text,
                   'match', CASE c.confmatchtype WHEN 'f' THEN 'full' ELSE 'simple' END,
                   'deferrable', c.condeferrable, 'initially_deferred', c.condeferred)
               || CASE WHEN d.numbers IS NULL THEN '{}'
                       ELSE jsonb_build_object('on_delete_columns', peer_internal.column_list(c.conrelid, d.numbers)) END AS item
          FROM pg_constraint AS c
          JOIN pg_class AS r ON r.oid = c.confrelid
          JOIN pg_namespace AS n ON n.oid = r.relnamespace
         CROSS JOIN (SELECT '{"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}'::jsonb)
               AS a(actions)
          LEFT JOIN LATERAL (SELECT array_agg(x.value::int2 ORDER BY x.place)
                               FROM jsonb_array_elements_text(nullif(to_jsonb(c) -> 'confdelsetcols', 'null'))
                                    WITH ORDINALITY AS x(value, place)) AS d(numbers) ON true
         WHERE c.conrelid = describe_foreign_keys.relation AND c.contype = 'f' AND c.conparentid = 0)
    SELECT jsonb_build_object(
        'items', (SELECT coalesce(jsonb_agg(k.item ORDER BY k.name COLLATE "C"), '[]') FROM key AS k WHERE k.reason IS NULL),
        'omitted', (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', 'foreign key', 'name', k.name, 'reason', k.reason)
                                              ORDER BY k.name COLLATE "C"), '[]')
                      FROM key AS k WHERE k.reason IS NOT NULL))
$$;
COMMENT ON FUNCTION peer_internal.describe_foreign_keys(oid) IS 'Describes the foreign keys of a table.';

CREATE OR REPLACE FUNCTION peer_internal.describe_index_column(index oid, place int, column_names text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    SET quote_all_identifiers = off SET standard_conforming_strings = on SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
    SET timezone = 'UTC' SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on
AS $$
DECLARE
    c record;
    item jsonb;
    tokens jsonb;
BEGIN
    SELECT i.indrelid, i.indkey[place - 1] AS number, i.indoption[place - 1] AS option, a.attcollation, a.attname,
           coalesce(a.attcollation, t.typcollation) AS default_collation, i.indcollation[place - 1] AS collation,
           o.opcname, o.opcdefault, n.nspname
      INTO STRICT c
      FROM pg_index AS i
      JOIN pg_opclass AS o ON o.oid = i.indclass[place - 1]
      JOIN pg_namespace AS n ON n.oid = o.opcnamespace
      JOIN pg_attribute AS x ON x.attrelid = i.indexrelid AND x.attnum = place
      JOIN pg_type AS t ON t.oid = x.atttypid
      LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[place - 1] AND a.attnum > 0
     WHERE i.indexrelid = index;
    IF c.number < 0 THEN
        RETURN '{"reason": "it uses a system column"}';
    ELSIF NOT c.opcdefault AND c.nspname <> 'pg_catalog' THEN
        RETURN jsonb_build_object('reason', format('it uses the operator class %I.%I, which is not built in', c.nspname, c.opcname));
    ELSIF c.number > 0 THEN
        item := jsonb_build_object('column', c.attname);
    ELSE
        tokens := peer_internal.tokenize_expression(pg_get_indexdef(index, place, false), column_names);
        IF jsonb_typeof(tokens) = 'object' THEN
            RETURN tokens;
        END IF;
        item := jsonb_build_object('expression', tokens);
    END IF;
    IF NOT c.opcdefault THEN
        item := item || jsonb_build_object('operator_class', c.opcname);
    END IF;
    IF c.collation <> 0 AND c.collation <> c.default_collation THEN
        item := item || jsonb_build_object('collation', peer_internal.collation_reference(c.collation, 0));
    END IF;
    RETURN item || jsonb_build_object('descending', c.option & 1 = 1, 'nulls_first', c.option & 2 = 2);
END
$$;
COMMENT ON FUNCTION peer_internal.describe_index_column(oid, int, text[]) IS
    'Describes one key column of an index, counted from 1; {"reason": text} when it does not travel.';

CREATE OR REPLACE FUNCTION peer_internal.describe_indexes(relation oid) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[] := peer_internal.column_names(relation);
    items jsonb := '[]';
    omitted jsonb := '[]';
    columns jsonb;
    predicate jsonb;
    reason text;
    x record;
BEGIN
    -- indexes behind constraints are described as those
    FOR x IN SELECT i.indexrelid, i.indisunique, i.indpred, i.indnkeyatts, i.indkey, c.relname, a.amname, a.amhandler,
                    coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_not_distinct
               FROM pg_index AS i
               JOIN pg_class AS c ON c.oid = i.indexrelid
               JOIN pg_am AS a ON a.oid = c.relam
              WHERE i.indrelid = relation AND i.indisvalid
                AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
              ORDER BY c.relname::text COLLATE "C" LOOP
        SELECT coalesce(jsonb_agg(d.item ORDER BY d.place), '[]'), min(d.item ->> 'reason')
          INTO columns, reason
          FROM (SELECT n.place, peer_internal.describe_index_column(x.indexrelid, n.place, names)
                  FROM generate_series(1, x.indnkeyatts) AS n(place)) AS d(place, item);
        predicate := CASE WHEN x.indpred IS NOT NULL THEN peer_internal.describe_expression(x.indpred, relation, names) END;
        reason := CASE WHEN x.amname NOT IN ('btree', 'hash', 'gin', 'gist', 'spgist', 'brin')
                       THEN format('its method %s is not built in', x.amname)
                       ELSE coalesce(reason, predicate ->> 'reason') END;
        IF reason IS NOT NULL THEN
            omitted := omitted || jsonb_build_object('kind', 'index', 'name', x.relname, 'reason', reason);
        ELSE
            items := items || jsonb_build_object(
                'name', x.relname, 'unique', x.indisunique, 'method', x.amname, 'columns', columns,
                'include', peer_internal.column_list(relation, (x.indkey::int2[])[x.indnkeyatts:]),
                'predicate', predicate, 'nulls_not_distinct', x.nulls_not_distinct);
        END IF;
    END LOOP;
    RETURN jsonb_build_object('items', items, 'omitted', omitted);
END
$$;
COMMENT ON FUNCTION peer_internal.describe_indexes(oid) IS 'Describes the indexes of a table that stand behind no constraint.';

REVOKE ALL ON FUNCTION peer_internal.column_names(oid), peer_internal.column_list(oid, int2[]),
    peer_internal.describe_checks(oid), peer_internal.describe_keys(oid),
    peer_internal.describe_foreign_keys(oid), peer_internal.describe_index_column(oid, int, text[]),
    peer_internal.describe_indexes(oid) FROM PUBLIC;
