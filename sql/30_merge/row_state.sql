-- The state of rows as a function of a set of commits (merge rules 1 to 3), computed from the retained sections.
-- Lines unpacked from sections have no statistics: nested loops over them would be quadratic, so they are switched off, and
-- with them JIT, which the planner's penalty for what is switched off would call for (seconds of compilation).

CREATE OR REPLACE FUNCTION peer_internal.sees(ancestry bigint[], unseen bytea[], lane int, seq bigint, digest bytea) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    -- no SET clause: inlined, it runs for every pair of writes that meet
    SELECT seq <= coalesce(ancestry[lane], 0) AND digest <> ALL (unseen)
$$;
COMMENT ON FUNCTION peer_internal.sees(bigint[], bytea[], int, bigint, bytea) IS 'Whether a commit (lane, seq, digest) is in an ancestry less its unseen commits (merge rule 1).';

CREATE OR REPLACE FUNCTION peer_internal.writes(relation_id uuid, keys text[], commit_nos bigint[])
RETURNS TABLE (key_text text, op text, column_ids uuid[], fields text[], unseen bytea[], commit_no bigint, lane int, seq bigint,
               rank text, digest bytea, ancestry bigint[])
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT w.key_text, s.op, s.column_ids, (peer_internal.split_line(w.line))[r.key_count + 1:], s.unseen,
           c.commit_no, c.lane, c.seq, c.rank, c.digest, c.ancestry
      FROM peer_internal.relation AS r
      JOIN peer_internal.section AS s ON s.relation_id = r.relation_id
      JOIN peer_internal.commit AS c ON c.commit_no = s.commit_no
     CROSS JOIN LATERAL (SELECT peer_internal.key_text(l.line, r.key_count) AS key_text, l.line
                           FROM unnest(peer_internal.section_lines(s.data)) AS l(line)) AS w
     WHERE r.relation_id = writes.relation_id AND s.op <> 'SCHEMA'
       AND CASE WHEN commit_nos IS NULL THEN c.state = 'merged' ELSE c.commit_no = ANY (commit_nos) END
       AND (keys IS NULL
            OR (s.first_key <= (SELECT max(k.key COLLATE "C") FROM unnest(keys) AS k(key))
                AND s.last_key >= (SELECT min(k.key COLLATE "C") FROM unnest(keys) AS k(key))
                AND w.key_text = ANY (keys)));
END
$$;
COMMENT ON FUNCTION peer_internal.writes(uuid, text[], bigint[]) IS 'The writes to rows (keys NULL: all) in the sections of some commits (NULL: all that are merged). fields: one per column id, NULL for SQL NULL.';

CREATE OR REPLACE FUNCTION peer_internal.row_state(relation_id uuid, keys text[], ancestry bigint[], unseen bytea[])
RETURNS TABLE (key_text text, fields text[])
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
    WITH w AS MATERIALIZED (
        SELECT row_number() OVER () AS write_no, x.*
          FROM peer_internal.writes(row_state.relation_id, row_state.keys, NULL) AS x
         WHERE row_state.ancestry IS NULL OR peer_internal.sees(row_state.ancestry, row_state.unseen, x.lane, x.seq, x.digest)),
    greatest_insert AS (  -- the greatest insert that a write is, or has seen
        SELECT a.write_no, max(i.rank) AS rank
          FROM w AS a JOIN w AS i ON i.key_text = a.key_text AND i.op = 'INSERT'
         WHERE a.op <> 'DELETE' AND peer_internal.sees(a.ancestry, a.unseen, i.lane, i.seq, i.digest)
         GROUP BY a.write_no),
    annulled AS (
        SELECT DISTINCT a.write_no
          FROM w AS a
          JOIN w AS d ON d.key_text = a.key_text AND d.op = 'DELETE'
          LEFT JOIN greatest_insert AS g ON g.write_no = a.write_no
         WHERE a.op <> 'DELETE' AND NOT peer_internal.sees(a.ancestry, a.unseen, d.lane, d.seq, d.digest)
           AND (g.rank IS NULL OR g.rank < d.rank)),
    standing AS (
        SELECT w.* FROM w LEFT JOIN annulled AS n USING (write_no) WHERE w.op <> 'DELETE' AND n.write_no IS NULL),
    present AS (SELECT DISTINCT s.key_text FROM standing AS s WHERE s.op = 'INSERT'),
    cell AS (
        SELECT DISTINCT ON (s.key_text, v.column_id) s.key_text, v.column_id, v.field
          FROM standing AS s CROSS JOIN LATERAL unnest(s.column_ids, s.fields) AS v(column_id, field)
         ORDER BY s.key_text, v.column_id, s.rank DESC)
    SELECT p.key_text, coalesce(array_agg(cell.field ORDER BY c.ordinal) FILTER (WHERE c.ordinal IS NOT NULL), '{}')
      FROM present AS p
      LEFT JOIN peer_internal.relation_column AS c ON c.relation_id = row_state.relation_id AND NOT c.is_key
      LEFT JOIN cell ON cell.key_text = p.key_text AND cell.column_id = c.column_id
     GROUP BY p.key_text
$$;
COMMENT ON FUNCTION peer_internal.row_state(uuid, text[], bigint[], bytea[]) IS
    'The rows (those of keys, or all) that exist in an ancestry less unseen commits (NULL: all merged commits). fields: every non-key column in order.';

CREATE OR REPLACE FUNCTION peer_internal.section_line(key_text text, fields text[]) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT key_text || CASE WHEN fields = '{}' THEN '' ELSE E'\t' || array_to_string(fields, E'\t', E'\\N') END
$$;
COMMENT ON FUNCTION peer_internal.section_line(text, text[]) IS 'A section line from key text and fields (NULL for SQL NULL).';

CREATE OR REPLACE FUNCTION peer_internal.row_json(relation_id uuid, key_text text, fields text[]) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_object_agg(c.name, peer_internal.field_json(
               CASE WHEN c.is_key THEN (peer_internal.split_line(row_json.key_text))[c.ordinal + 1] ELSE row_json.fields[c.ordinal + 1] END, c.type))
      FROM peer_internal.relation_column AS c
     WHERE c.relation_id = row_json.relation_id
$$;
COMMENT ON FUNCTION peer_internal.row_json(uuid, text, text[]) IS 'A whole row as an object.';

CREATE OR REPLACE FUNCTION peer_internal.key_json(relation_id uuid, key_text text) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_object_agg(c.name, peer_internal.field_json((peer_internal.split_line(key_json.key_text))[c.ordinal + 1], c.type))
      FROM peer_internal.relation_column AS c
     WHERE c.relation_id = key_json.relation_id AND c.is_key
$$;
COMMENT ON FUNCTION peer_internal.key_json(uuid, text) IS 'A key text as an object of the key columns.';
