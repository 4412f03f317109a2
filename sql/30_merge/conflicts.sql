-- Conflicts: derived from the set of commits (merge rule 5, decision record 3).

CREATE OR REPLACE FUNCTION peer_internal.common_ancestry(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(least(x.a, x.b) ORDER BY x.lane), '{}')
      FROM (SELECT g.lane, coalesce(a[g.lane], 0) AS a, coalesce(b[g.lane], 0) AS b
              FROM generate_series(1, greatest(cardinality(a), cardinality(b))) AS g(lane)) AS x
$$;
COMMENT ON FUNCTION peer_internal.common_ancestry(bigint[], bigint[]) IS 'The commits that two ancestries have in common.';

CREATE OR REPLACE FUNCTION peer_internal.conflict_id(relation_id uuid, column_id uuid, lesser bytea, greater bytea, key_text text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT left(encode(sha256(convert_to(relation_id || '|' || coalesce(column_id::text, '') || '|' || encode(lesser, 'hex') || '|'
                                         || encode(greater, 'hex') || '|' || key_text, 'UTF8')), 'hex'), 32)
$$;
COMMENT ON FUNCTION peer_internal.conflict_id(uuid, uuid, bytea, bytea, text) IS 'The id of a conflict, the same on every member.';

CREATE OR REPLACE FUNCTION peer_internal.settle_conflicts(commit_no bigint) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
DECLARE
    c peer_internal.commit;
    part record;
BEGIN
    SELECT x.* INTO STRICT c FROM peer_internal.commit AS x WHERE x.commit_no = settle_conflicts.commit_no;
    FOR part IN
        SELECT s.relation_id, array_agg(DISTINCT x.key_text) AS keys
          FROM peer_internal.section AS s
          JOIN peer_internal.conflict AS x ON x.relation_id = s.relation_id AND x.key_text BETWEEN s.first_key AND s.last_key
               AND left(x.key_text, 256) BETWEEN left(s.first_key, 256) AND left(s.last_key, 256)
         WHERE s.commit_no = c.commit_no AND s.op <> 'SCHEMA'
         GROUP BY s.relation_id
    LOOP
        WITH w AS MATERIALIZED (
            SELECT y.key_text, y.column_ids, y.unseen FROM peer_internal.writes(part.relation_id, part.keys, ARRAY[c.commit_no]) AS y),
        slot AS (  -- cells by the section that writes them; the row's existence by the whole commit, column_ids NULL
            SELECT w.key_text, w.column_ids, w.unseen FROM w
            UNION ALL
            SELECT w.key_text, NULL, coalesce(array_agg(DISTINCT u.digest) FILTER (WHERE u.digest IS NOT NULL), '{}')
              FROM w LEFT JOIN LATERAL unnest(w.unseen) AS u(digest) ON true GROUP BY w.key_text),
        seen AS MATERIALIZED (
            SELECT x.conflict_id,
                   peer_internal.sees(c.ancestry, w.unseen, l.lane, l.seq, l.digest) AS lesser,
                   peer_internal.sees(c.ancestry, w.unseen, g.lane, g.seq, g.digest) AS greater
              FROM slot AS w
              JOIN peer_internal.conflict AS x ON x.relation_id = part.relation_id AND x.key_text = w.key_text
                   AND CASE WHEN w.column_ids IS NULL THEN x.column_id IS NULL ELSE x.column_id = ANY (w.column_ids) END
              JOIN peer_internal.commit AS l ON l.digest = x.lesser_commit
              JOIN peer_internal.commit AS g ON g.digest = x.greater_commit
             WHERE c.digest NOT IN (x.lesser_commit, x.greater_commit)),
        superseded AS (
            -- a later write of one side that is still concurrent with the other takes its place
            DELETE FROM peer_internal.conflict AS x USING seen AS s WHERE x.conflict_id = s.conflict_id AND s.lesser <> s.greater)
        UPDATE peer_internal.conflict AS x SET state = 'resolved'
          FROM seen AS s WHERE x.conflict_id = s.conflict_id AND s.lesser AND s.greater AND x.state <> 'resolved';
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.settle_conflicts(bigint) IS 'What a commit does to the conflicts that stand: those that it has seen both sides of are resolved, those that it continues one side of are superseded.';

CREATE OR REPLACE FUNCTION peer_internal.find_conflicts(commit_no bigint, relation_id uuid, keys text[], rivals bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
-- the values that a conflict shows must not depend on the session that merges
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC' SET array_nulls = on
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
AS $$
DECLARE
    pair record;
BEGIN
    FOR pair IN
        WITH w AS MATERIALIZED (
            SELECT x.* FROM peer_internal.writes(find_conflicts.relation_id, keys, rivals || find_conflicts.commit_no) AS x),
        cell AS MATERIALIZED (  -- slot: the cell, or the row's existence
            SELECT v.column_id || E'\t' || w.key_text AS slot, w.key_text, w.op, w.unseen, w.commit_no, w.lane, w.seq, w.rank, w.digest, w.ancestry,
                   v.column_id, v.field, NULL::boolean AS is_absent FROM w CROSS JOIN LATERAL unnest(w.column_ids, w.fields) AS v(column_id, field) WHERE w.op <> 'DELETE'
            UNION ALL
            -- on existence a commit has one operation per key, even when its cells stand in sections with different unseen lists
            (SELECT DISTINCT ON (w.commit_no, w.key_text) w.key_text, w.key_text, w.op,
                    ARRAY(SELECT DISTINCT u.digest FROM w AS o CROSS JOIN LATERAL unnest(o.unseen) AS u(digest)
                           WHERE o.commit_no = w.commit_no AND o.key_text = w.key_text ORDER BY u.digest),
                    w.commit_no, w.lane, w.seq, w.rank, w.digest, w.ancestry, NULL, NULL, w.op = 'DELETE'
               FROM w ORDER BY w.commit_no, w.key_text)),
        met AS (
            SELECT a.key_text, a.column_id, a.op AS op_a, b.op AS op_b, a.field AS field_a, b.field AS field_b, a.digest AS digest_a, b.digest AS digest_b,
                   a.rank AS rank_a, b.rank AS rank_b, a.ancestry AS ancestry_a, b.ancestry AS ancestry_b, a.unseen AS unseen_a, b.unseen AS unseen_b
              FROM cell AS a
              JOIN cell AS b ON b.slot = a.slot AND b.commit_no <> a.commit_no
             WHERE a.commit_no = find_conflicts.commit_no
               AND NOT peer_internal.sees(a.ancestry, a.unseen, b.lane, b.seq, b.digest)
               AND NOT peer_internal.sees(b.ancestry, b.unseen, a.lane, a.seq, a.digest)
               AND CASE WHEN a.column_id IS NULL THEN a.is_absent <> b.is_absent ELSE a.field IS DISTINCT FROM b.field END
               -- only the last write of each side
               AND NOT EXISTS (
                   SELECT FROM cell AS later
                    WHERE later.slot = b.slot AND later.commit_no NOT IN (a.commit_no, b.commit_no)
                      AND peer_internal.sees(later.ancestry, later.unseen, b.lane, b.seq, b.digest)
                      AND NOT peer_internal.sees(a.ancestry, a.unseen, later.lane, later.seq, later.digest)
                      AND NOT peer_internal.sees(later.ancestry, later.unseen, a.lane, a.seq, a.digest))
               AND NOT EXISTS (
                   SELECT FROM cell AS later
                    WHERE later.slot = a.slot AND later.commit_no NOT IN (a.commit_no, b.commit_no)
                      AND peer_internal.sees(later.ancestry, later.unseen, a.lane, a.seq, a.digest)
                      AND NOT peer_internal.sees(later.ancestry, later.unseen, b.lane, b.seq, b.digest)
                      AND NOT peer_internal.sees(b.ancestry, b.unseen, later.lane, later.seq, later.digest)))
        SELECT m.ancestry_a, m.ancestry_b, m.unseen_a, m.unseen_b, m.column_id IS NULL AS is_existence, m.digest_a, m.digest_b, m.rank_a, m.rank_b, m.rank_a > m.rank_b AS is_a_greater,
               array_agg(m.key_text) AS keys, array_agg(m.column_id) AS columns, array_agg(m.op_a) AS ops_a, array_agg(m.op_b) AS ops_b,
               array_agg(m.field_a) AS fields_a, array_agg(m.field_b) AS fields_b
          FROM met AS m
         GROUP BY m.ancestry_a, m.ancestry_b, m.unseen_a, m.unseen_b, m.column_id IS NULL, m.digest_a, m.digest_b, m.rank_a, m.rank_b
    LOOP
        INSERT INTO peer_internal.conflict (conflict_id, bundle_id, relation_id, key_text, column_id, kind, lesser_commit, greater_commit,
                                            winning_commit, losing_commit, base_value, winning_value, losing_value)
        WITH m AS (
            SELECT u.*, CASE WHEN pair.is_a_greater THEN pair.digest_b ELSE pair.digest_a END AS lesser,
                   CASE WHEN pair.is_a_greater THEN pair.digest_a ELSE pair.digest_b END AS greater,
                   -- existence: the delete wins when it annuls the other write, that is unless that write has seen a greater insert
                   CASE WHEN NOT pair.is_existence THEN pair.is_a_greater
                        WHEN u.op_a = 'DELETE' THEN NOT peer_internal.outlives(find_conflicts.relation_id, u.key_text, pair.ancestry_b, pair.unseen_b, pair.rank_a)
                        ELSE peer_internal.outlives(find_conflicts.relation_id, u.key_text, pair.ancestry_a, pair.unseen_a, pair.rank_b) END AS a_wins
              FROM unnest(pair.keys, pair.columns, pair.ops_a, pair.ops_b, pair.fields_a, pair.fields_b)
                   AS u(key_text, column_id, op_a, op_b, field_a, field_b)),
        base AS MATERIALIZED (
            SELECT * FROM peer_internal.row_state(find_conflicts.relation_id, pair.keys, peer_internal.common_ancestry(pair.ancestry_a, pair.ancestry_b),
                                                  pair.unseen_a || pair.unseen_b)),
        at_a AS MATERIALIZED (
            SELECT * FROM peer_internal.row_state(find_conflicts.relation_id, CASE WHEN pair.is_existence THEN pair.keys ELSE '{}' END, pair.ancestry_a, pair.unseen_a)),
        at_b AS MATERIALIZED (
            SELECT * FROM peer_internal.row_state(find_conflicts.relation_id, CASE WHEN pair.is_existence THEN pair.keys ELSE '{}' END, pair.ancestry_b, pair.unseen_b)),
        valued AS (
            SELECT m.*,
                   CASE WHEN pair.is_existence THEN peer_internal.row_json(find_conflicts.relation_id, base.key_text, base.fields)
                        WHEN base.key_text IS NOT NULL THEN peer_internal.field_json(base.fields[c.ordinal + 1], c.type) END AS base_value,
                   CASE WHEN pair.is_existence THEN peer_internal.row_json(find_conflicts.relation_id, at_a.key_text, at_a.fields)
                        ELSE peer_internal.field_json(m.field_a, c.type) END AS value_a,
                   CASE WHEN pair.is_existence THEN peer_internal.row_json(find_conflicts.relation_id, at_b.key_text, at_b.fields)
                        ELSE peer_internal.field_json(m.field_b, c.type) END AS value_b
              FROM m
              LEFT JOIN peer_internal.relation_column AS c ON c.relation_id = find_conflicts.relation_id AND c.column_id = m.column_id
              LEFT JOIN base ON base.key_text = m.key_text
              LEFT JOIN at_a ON at_a.key_text = m.key_text
              LEFT JOIN at_b ON at_b.key_text = m.key_text)
        SELECT peer_internal.conflict_id(find_conflicts.relation_id, v.column_id, v.lesser, v.greater, v.key_text), r.bundle_id, r.relation_id, v.key_text, v.column_id,
               lower(least(v.op_a, v.op_b) || '_' || greatest(v.op_a, v.op_b)), v.lesser, v.greater,
               CASE WHEN v.a_wins THEN pair.digest_a ELSE pair.digest_b END, CASE WHEN v.a_wins THEN pair.digest_b ELSE pair.digest_a END,
               v.base_value, CASE WHEN v.a_wins THEN v.value_a ELSE v.value_b END, CASE WHEN v.a_wins THEN v.value_b ELSE v.value_a END
          FROM valued AS v JOIN peer_internal.relation AS r ON r.relation_id = find_conflicts.relation_id
        ON CONFLICT ON CONSTRAINT conflict_pkey DO NOTHING;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.find_conflicts(bigint, uuid, text[], bigint[]) IS 'Records the conflicts between the writes of one commit and those of its rivals, on some keys.';

CREATE OR REPLACE FUNCTION peer_internal.outlives(relation_id uuid, key_text text, ancestry bigint[], unseen bytea[], delete_rank text) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM peer_internal.writes(outlives.relation_id, ARRAY[outlives.key_text], NULL) AS i
                    WHERE i.op = 'INSERT' AND i.rank > outlives.delete_rank COLLATE "C"
                      AND peer_internal.sees(outlives.ancestry, outlives.unseen, i.lane, i.seq, i.digest))
$$;
COMMENT ON FUNCTION peer_internal.outlives(uuid, text, bigint[], bytea[], text) IS 'Whether a write with this ancestry is not annulled by a concurrent delete of this rank: it is, or has seen, a greater insert (merge rule 3).';
