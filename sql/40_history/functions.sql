-- Reading the history: what a word means as a state, and rows at a state.

CREATE OR REPLACE FUNCTION peer_internal.resolve_commit(bundle_id uuid, commit_id text) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found bigint[];
    given text := resolve_commit.commit_id;
BEGIN
    IF given LIKE 'bafyrei%' AND length(given) = 59 THEN
        SELECT array_agg(c.commit_no) INTO found FROM peer_internal.commit AS c WHERE c.bundle_id = resolve_commit.bundle_id AND c.commit_id = given AND c.state = 'merged';
        IF found IS NULL THEN
            SELECT array_agg(c.commit_no) INTO found FROM peer_internal.commit_alias AS a JOIN peer_internal.commit AS c ON c.digest = a.new_digest
             WHERE c.bundle_id = resolve_commit.bundle_id AND peer_internal.commit_id(a.old_digest) = given;
        END IF;
    ELSIF length(given) >= (CASE WHEN given LIKE 'bafyrei%' THEN 11 ELSE 4 END) AND given ~ '^[a-z2-7]+$' THEN
        SELECT array_agg(c.commit_no) INTO found FROM peer_internal.commit AS c
         WHERE c.bundle_id = resolve_commit.bundle_id AND c.state = 'merged'
           AND c.commit_id COLLATE "C" LIKE CASE WHEN given LIKE 'bafyrei%' THEN given ELSE 'bafyrei' || given END || '%';
    END IF;
    IF cardinality(found) = 1 THEN
        RETURN found[1];
    ELSIF cardinality(found) > 1 THEN
        RAISE EXCEPTION 'commit % is not unique', quote_literal(given) USING ERRCODE = 'PGC04',
            DETAIL = format('%s commits begin so.', cardinality(found)), HINT = 'Give more characters of the id.';
    END IF;
    RAISE EXCEPTION 'there is no commit % in this bundle', coalesce(quote_literal(given), 'NULL') USING ERRCODE = 'PGC03',
        HINT = 'Give a commit id, at least 4 characters of one, HEAD, or (in diffs) WORKING. SELECT * FROM peer.log(…) lists them.';
END
$$;
COMMENT ON FUNCTION peer_internal.resolve_commit(uuid, text) IS 'The merged commit that an id, or a unique prefix of at least 4 characters, means.';

CREATE OR REPLACE FUNCTION peer_internal.head_ancestry(bundle_id uuid) RETURNS bigint[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT peer_internal.merged_ancestry(coalesce(array_agg(h.commit_no), '{}')) FROM peer_internal.head AS h WHERE h.bundle_id = head_ancestry.bundle_id
$$;
COMMENT ON FUNCTION peer_internal.head_ancestry(uuid) IS 'The ancestry of everything that is merged here.';

CREATE OR REPLACE FUNCTION peer_internal.state_ancestry(bundle_id uuid, commit_id text) RETURNS bigint[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN commit_id IN ('HEAD', 'WORKING') THEN peer_internal.head_ancestry(bundle_id)
                ELSE (SELECT c.ancestry FROM peer_internal.commit AS c WHERE c.commit_no = peer_internal.resolve_commit(state_ancestry.bundle_id, state_ancestry.commit_id)) END
$$;
COMMENT ON FUNCTION peer_internal.state_ancestry(uuid, text) IS 'The ancestry of HEAD (also for WORKING) or of a commit.';

CREATE OR REPLACE FUNCTION peer_internal.working_rows(relation_id uuid, keys text[]) RETURNS TABLE (key_text text, fields text[])
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp SET row_security = off
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
AS $$
DECLARE
    target regclass;
    fields_sql text;
BEGIN
    SELECT r.relation INTO STRICT target FROM peer_internal.relation AS r WHERE r.relation_id = working_rows.relation_id;
    SELECT 'ARRAY[' || coalesce(string_agg(peer_internal.field_expression('t.' || quote_ident(c.name), c.type), ', ' ORDER BY c.ordinal), '') || ']::text[]' INTO fields_sql
      FROM peer_internal.relation_column AS c WHERE c.relation_id = working_rows.relation_id AND NOT c.is_key;
    RETURN QUERY EXECUTE format('SELECT %s, %s FROM %s AS t', peer_internal.key_text_expression(working_rows.relation_id, 't.%1$s'), fields_sql, target)
        || CASE WHEN keys IS NULL THEN '' ELSE format(' JOIN %s AS s ON %s', peer_internal.line_source(working_rows.relation_id, '{}'),
                                                      peer_internal.key_list(working_rows.relation_id, 't.%1$s = s.%1$s', ' AND ')) END USING keys;
END
$$;
COMMENT ON FUNCTION peer_internal.working_rows(uuid, text[]) IS 'The rows as they stand in the table now (keys NULL: all), as COPY text fields.';

CREATE OR REPLACE FUNCTION peer_internal.relation_hash(relation_id uuid) RETURNS bytea
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sha256(coalesce(string_agg(chunk.hash, '' ORDER BY chunk.n), ''))
      FROM (SELECT r.n / 8192 AS n, sha256(string_agg(sha256(convert_to(r.line, 'UTF8')), '' ORDER BY r.n)) AS hash
              FROM (SELECT row_number() OVER (ORDER BY w.key_text COLLATE "C") AS n, peer_internal.section_line(w.key_text, w.fields) AS line
                      FROM peer_internal.working_rows(relation_hash.relation_id, NULL) AS w) AS r
             GROUP BY r.n / 8192) AS chunk
$$;
COMMENT ON FUNCTION peer_internal.relation_hash(uuid) IS 'A hash of all rows of a relation, independent of their place in the table.';

CREATE OR REPLACE FUNCTION peer_internal.changes_between(relation_id uuid, from_ancestry bigint[], to_ancestry bigint[], keys text[], working_side int)
RETURNS TABLE (key_text text, operation text, column_name text, old_value jsonb, new_value jsonb)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH old AS MATERIALIZED (
        SELECT * FROM peer_internal.row_state(relation_id, keys, from_ancestry, '{}') WHERE working_side <> 1
        UNION ALL SELECT * FROM peer_internal.working_rows(relation_id, keys) WHERE working_side = 1),
    new AS MATERIALIZED (
        SELECT * FROM peer_internal.row_state(relation_id, keys, to_ancestry, '{}') WHERE working_side <> 2
        UNION ALL SELECT * FROM peer_internal.working_rows(relation_id, keys) WHERE working_side = 2),
    pair AS (SELECT coalesce(old.key_text, new.key_text) AS key_text, old.key_text IS NOT NULL AS was, new.key_text IS NOT NULL AS is_now, old.fields AS old_fields, new.fields AS new_fields
               FROM old FULL JOIN new ON new.key_text = old.key_text)
    SELECT p.key_text, CASE WHEN p.was THEN 'DELETE' ELSE 'INSERT' END, NULL,
           CASE WHEN p.was THEN peer_internal.row_json(relation_id, p.key_text, p.old_fields) END,
           CASE WHEN p.is_now THEN peer_internal.row_json(relation_id, p.key_text, p.new_fields) END
      FROM pair AS p WHERE p.was <> p.is_now
    UNION ALL
    SELECT p.key_text, 'UPDATE', c.name, peer_internal.field_json(p.old_fields[c.ordinal + 1], c.type), peer_internal.field_json(p.new_fields[c.ordinal + 1], c.type)
      FROM pair AS p
      JOIN peer_internal.relation_column AS c ON c.relation_id = changes_between.relation_id AND NOT c.is_key
     WHERE p.was AND p.is_now AND p.old_fields[c.ordinal + 1] IS DISTINCT FROM p.new_fields[c.ordinal + 1]
$$;
COMMENT ON FUNCTION peer_internal.changes_between(uuid, bigint[], bigint[], text[], int) IS 'What differs in some rows between two states. working_side: 1 or 2 when that side is the table itself, else 0.';

CREATE OR REPLACE FUNCTION peer_internal.keys_between(relation_id uuid, from_ancestry bigint[], to_ancestry bigint[]) RETURNS text[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(DISTINCT peer_internal.key_text(l.line, r.key_count)), '{}')
      FROM peer_internal.relation AS r
      JOIN peer_internal.section AS s ON s.relation_id = r.relation_id AND s.op <> 'SCHEMA'
      JOIN peer_internal.commit AS c ON c.commit_no = s.commit_no AND c.state = 'merged'
     CROSS JOIN LATERAL unnest(peer_internal.section_lines(s.data)) AS l(line)
     WHERE r.relation_id = keys_between.relation_id
       AND (c.seq <= coalesce(from_ancestry[c.lane], 0)) <> (c.seq <= coalesce(to_ancestry[c.lane], 0))
$$;
COMMENT ON FUNCTION peer_internal.keys_between(uuid, bigint[], bigint[]) IS 'The keys that commits in one but not both of two ancestries write.';
