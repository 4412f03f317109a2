-- The generated WITH parts of a seal. One statement over all relations of a bundle reads the journals and the values on one
-- snapshot, so that every user transaction lies wholly inside one commit.

CREATE OR REPLACE FUNCTION peer_internal.fold_statement(r peer_internal.relation) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- existed before = exists now - (inserts - deletes); a key that was deleted and inserted again is an update of every column.
    -- In the order of the keys, because the table is then read in that order too: the planner cannot know how many there are, and
    -- would gather them by hash and look the rows up at random (twice the time for a million rows).
    SELECT format($sql$folded_%1$s AS (
    SELECT %2$s, count(*) FILTER (WHERE k.op = 'I') - count(*) FILTER (WHERE k.op = 'D') AS net,
           bool_or(k.op <> 'U') AS is_whole, bit_or(k.mask) AS mask
      FROM (SELECT t.op, t.mask, %4$s FROM taken_%1$s AS t, unnest(t.keys) AS k(%3$s) ORDER BY %4$s) AS k
     GROUP BY %4$s),
change_%1$s AS (
    SELECT CASE WHEN c.exists_now AND c.existed THEN 'UPDATE' WHEN c.exists_now THEN 'INSERT' ELSE 'DELETE' END AS op,
           CASE WHEN NOT c.exists_now THEN %5$s WHEN c.is_whole THEN ~ %5$s ELSE c.mask END AS mask,
           c.key_text, c.line
      FROM (SELECT t.%6$s IS NOT NULL AS exists_now, (t.%6$s IS NOT NULL)::int - f.net = 1 AS existed, f.is_whole, f.mask,
                   %7$s AS key_text, %8$s AS line
              FROM folded_%1$s AS f LEFT JOIN %9$s AS t ON %10$s) AS c
     WHERE c.exists_now OR c.existed)$sql$,
        r.relation_number,
        peer_internal.key_list(r.relation_id, 'k.k%2$s', ', '),
        peer_internal.key_list(r.relation_id, 'k%2$s', ', '),
        peer_internal.key_list(r.relation_id, 'k.k%2$s', ', '),
        format('repeat(''0'', %s)::bit(%s)', r.mask_bits, r.mask_bits),
        (SELECT quote_ident(c.name) FROM peer_internal.relation_column AS c WHERE c.relation_id = r.relation_id AND c.is_key AND c.ordinal = 0),
        peer_internal.key_text_expression(r.relation_id, 'f.k%2$s'),
        peer_internal.line_expression(r.relation_id),
        r.relation,
        peer_internal.key_list(r.relation_id, 't.%1$s = f.k%2$s', ' AND '))
$$;
COMMENT ON FUNCTION peer_internal.fold_statement(peer_internal.relation) IS 'The WITH parts folded_N and change_N: one change per key from the journal rows taken_N (op, mask, keys).';

CREATE OR REPLACE FUNCTION peer_internal.line_expression(relation_id uuid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(string_agg(format($field$CASE WHEN f.is_whole OR get_bit(f.mask, %s) = 1 THEN E'\t' || coalesce(%s, E'\\N') ELSE '' END$field$,
                                      peer_internal.mask_bit(c.ordinal), peer_internal.field_expression('t.' || quote_ident(c.name), c.type)),
                               E'\n                   || ' ORDER BY c.ordinal), '''''')
      FROM peer_internal.relation_column AS c
     WHERE c.relation_id = line_expression.relation_id AND NOT c.is_key
$$;
COMMENT ON FUNCTION peer_internal.line_expression(uuid) IS 'SQL text of the changed fields of a row (t = table, f = fold), each led by a tab.';

CREATE OR REPLACE FUNCTION peer_internal.section_statement(r peer_internal.relation) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- unseen_N (op, mask, unseen, key_text, line) is made by peer_internal.seal_statement. The operation goes through the sort as
    -- its first letter and the mask, where it fits, as an integer: they are alike in most rows, and compared for each pair of them.
    SELECT format($sql$numbered_%1$s AS (
    SELECT ascii(c.op) AS letter, %3$s AS word, c.unseen, c.key_text, c.key_text || CASE WHEN c.op = 'DELETE' THEN '' ELSE c.line END AS line,
           (row_number() OVER w - 1) / $2 AS rows_chunk,
           (sum(octet_length(c.key_text) + octet_length(c.line) + 1) OVER w)::bigint / $3 AS bytes_chunk
      FROM unseen_%1$s AS c
    WINDOW w AS (PARTITION BY ascii(c.op), %3$s, c.unseen ORDER BY c.key_text COLLATE "C" ROWS UNBOUNDED PRECEDING)),
section_%1$s AS (
    SELECT %2$L::uuid AS relation_id, CASE chr(c.letter) WHEN 'D' THEN 'DELETE' WHEN 'I' THEN 'INSERT' ELSE 'UPDATE' END AS op,
           CASE WHEN chr(c.letter) = 'D' THEN '{}' ELSE peer_internal.masked_columns(%2$L, %4$s) END AS column_ids,
           c.unseen, count(*) AS row_count, string_agg(c.line || E'\n', '' ORDER BY c.key_text COLLATE "C") AS data,
           min(c.key_text COLLATE "C") AS first_key, max(c.key_text COLLATE "C") AS last_key
      FROM numbered_%1$s AS c
     GROUP BY c.letter, c.word, c.unseen, c.rows_chunk, c.bytes_chunk)$sql$, r.relation_number, r.relation_id,
        CASE r.mask_bits WHEN 64 THEN 'c.mask::bit(64)::bigint' ELSE 'c.mask' END, CASE r.mask_bits WHEN 64 THEN 'c.word::bit(64)' ELSE 'c.word' END)
$$;
COMMENT ON FUNCTION peer_internal.section_statement(peer_internal.relation) IS 'The WITH parts numbered_N and section_N ($2 rows and $3 bytes a section at most).';

CREATE OR REPLACE FUNCTION peer_internal.unseen_statement(r peer_internal.relation) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- Merge rule 12. A row's fields go to sections by their own list of unseen commits: what was merged into another column
    -- of the row, or before the row was touched here, has been seen.
    SELECT CASE WHEN NOT EXISTS (SELECT FROM peer_internal.unseen AS u WHERE u.relation_id = r.relation_id)
    THEN format('unseen_%1$s AS (SELECT c.op, c.mask, ''{}''::bytea[] AS unseen, c.key_text, c.line FROM change_%1$s AS c)', r.relation_number)
    ELSE format($sql$unseen_%1$s AS (
    SELECT c.op, s.mask, s.unseen, c.key_text,
           CASE WHEN c.op = 'UPDATE' THEN peer_internal.masked_fields(%2$L, c.mask, s.mask, c.line) ELSE c.line END AS line
      FROM change_%1$s AS c
     CROSS JOIN LATERAL peer_internal.unseen_parts(%2$L, c.key_text, c.op, c.mask) AS s(mask, unseen))$sql$, r.relation_number, r.relation_id) END
$$;
COMMENT ON FUNCTION peer_internal.unseen_statement(peer_internal.relation) IS 'The WITH part unseen_N: changes with the commits that they have not seen.';

CREATE OR REPLACE FUNCTION peer_internal.unseen_parts(relation_id uuid, key_text text, op text, mask bit varying)
RETURNS TABLE (part_mask bit varying, unseen bytea[])
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH mine AS (
        SELECT u.column_id, u.digest FROM peer_internal.unseen AS u
         WHERE u.relation_id = unseen_parts.relation_id AND u.key_text = unseen_parts.key_text),
    whole AS (SELECT coalesce(array_agg(DISTINCT m.digest ORDER BY m.digest), '{}') AS unseen FROM mine AS m),
    per_column AS (
        SELECT c.ordinal, coalesce((SELECT array_agg(DISTINCT m.digest ORDER BY m.digest) FROM mine AS m
                                     WHERE m.column_id IS NULL OR m.column_id = c.column_id), '{}') AS unseen
          FROM peer_internal.relation_column AS c
         WHERE c.relation_id = unseen_parts.relation_id AND NOT c.is_key
           AND get_bit(unseen_parts.mask, peer_internal.mask_bit(c.ordinal)) = 1)
    SELECT unseen_parts.mask, w.unseen FROM whole AS w WHERE unseen_parts.op <> 'UPDATE'
    UNION ALL
    SELECT bit_or(set_bit((unseen_parts.mask & ~ unseen_parts.mask)::bit varying, peer_internal.mask_bit(p.ordinal), 1)), p.unseen
      FROM per_column AS p WHERE unseen_parts.op = 'UPDATE' GROUP BY p.unseen
$$;
COMMENT ON FUNCTION peer_internal.unseen_parts(uuid, text, text, bit varying) IS 'The columns of one change, grouped by the commits that they have not seen.';

CREATE OR REPLACE FUNCTION peer_internal.masked_fields(relation_id uuid, mask bit varying, part_mask bit varying, line text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- line: one field, led by a tab, per bit of mask
    SELECT coalesce(string_agg(E'\t' || f.field, '' ORDER BY f.n), '')
      FROM unnest((string_to_array(masked_fields.line, E'\t'))[2:], peer_internal.masked_columns(masked_fields.relation_id, masked_fields.mask))
           WITH ORDINALITY AS f(field, column_id, n)
     WHERE f.column_id = ANY (peer_internal.masked_columns(masked_fields.relation_id, masked_fields.part_mask))
$$;
COMMENT ON FUNCTION peer_internal.masked_fields(uuid, bit varying, bit varying, text) IS 'The fields of a line whose columns are in part_mask.';

CREATE OR REPLACE FUNCTION peer_internal.seal_statement(relation_numbers int[], other_numbers int[]) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- A journal that was empty when this statement was put together and is not empty on its snapshot ("missed") belongs to a
    -- transaction that must not be torn: then nothing is taken, and the caller tries again with that relation.
    SELECT format($sql$WITH missed AS (SELECT %s AS happened),
%s,
made AS (
    %s),
stored AS (
    INSERT INTO peer_internal.section (commit_no, section_no, relation_id, op, column_ids, row_count, byte_count, digest, unseen, first_key, last_key, data)
    SELECT $1, row_number() OVER (ORDER BY m.relation_id, m.op, m.column_ids, m.unseen, m.first_key COLLATE "C") + $4, m.relation_id, m.op, m.column_ids, m.row_count,
           octet_length(m.data), sha256(convert_to(m.data, 'UTF8')), m.unseen, m.first_key, m.last_key, m.data
      FROM made AS m
    RETURNING row_count)
SELECT (SELECT happened FROM missed), count(*), coalesce(sum(row_count), 0) FROM stored$sql$,
        coalesce((SELECT string_agg(format('EXISTS (SELECT FROM peer_internal.journal_%s)', o.n), ' OR ') FROM unnest(other_numbers) AS o(n)), 'false'),
        string_agg(format('taken_%1$s AS (DELETE FROM peer_internal.journal_%1$s WHERE NOT (SELECT happened FROM missed) RETURNING op, mask, keys)', r.relation_number)
                   || E',\n' || r.fold_sql || E',\n' || peer_internal.unseen_statement(r) || E',\n' || r.seal_sql, E',\n' ORDER BY r.relation_number),
        string_agg(format('SELECT * FROM section_%s', r.relation_number), E'\n    UNION ALL ' ORDER BY r.relation_number))
      FROM peer_internal.relation AS r
     WHERE r.relation_number = ANY (seal_statement.relation_numbers)
$$;
COMMENT ON FUNCTION peer_internal.seal_statement(int[], int[]) IS 'The whole statement of a seal ($1 commit_no, $2 rows, $3 bytes, $4 sections before). Returns (missed, section count, row count).';
