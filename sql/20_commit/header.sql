-- The commit header in DAG-CBOR. Made here for local commits; made again here to check the bytes of foreign ones.

CREATE OR REPLACE FUNCTION peer_internal.encode_header(
    bundle_id uuid, author bytea, epoch bigint, seq bigint, previous bytea, parents bytea[], hlc bigint,
    schema_fingerprint bytea, message text, sections bytea[]
) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- map keys in DAG-CBOR order: shorter first, then bytewise; in PL/pgSQL, which keeps the plan: half the time of an SQL function
    RETURN peer_internal.cbor_head(5, 11)
        || peer_internal.cbor_text('hlc') || peer_internal.cbor_head(0, hlc)
        || peer_internal.cbor_text('seq') || peer_internal.cbor_head(0, seq)
        || peer_internal.cbor_text('prev') || peer_internal.cbor_cid(113, previous)
        || peer_internal.cbor_text('epoch') || peer_internal.cbor_head(0, epoch)
        || peer_internal.cbor_text('author') || peer_internal.cbor_bytes(author)
        || peer_internal.cbor_text('bundle') || peer_internal.cbor_head(2, 16) || uuid_send(bundle_id)
        || peer_internal.cbor_text('schema') || peer_internal.cbor_bytes(schema_fingerprint)
        || peer_internal.cbor_text('message') || peer_internal.cbor_text(message)
        || peer_internal.cbor_text('parents') || peer_internal.cbor_cids(parents)
        || peer_internal.cbor_text('version') || peer_internal.cbor_head(0, 1)
        || peer_internal.cbor_text('sections') || peer_internal.cbor_array(sections);
END
$$;
COMMENT ON FUNCTION peer_internal.encode_header(uuid, bytea, bigint, bigint, bytea, bytea[], bigint, bytea, text, bytea[]) IS 'A commit header as DAG-CBOR; sections are already encoded.';

CREATE OR REPLACE FUNCTION peer_internal.encode_section_header(
    op text, digest bytea, row_count bigint, byte_count bigint, unseen bytea[], column_ids uuid[], relation_id uuid
) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN peer_internal.cbor_head(5, 7)
        || peer_internal.cbor_text('op') || peer_internal.cbor_text(op)
        || peer_internal.cbor_text('cid') || peer_internal.cbor_cid(85, digest)
        || peer_internal.cbor_text('rows') || peer_internal.cbor_head(0, row_count)
        || peer_internal.cbor_text('bytes') || peer_internal.cbor_head(0, byte_count)
        || peer_internal.cbor_text('unseen') || peer_internal.cbor_cids(unseen)
        || peer_internal.cbor_text('columns') || peer_internal.cbor_head(4, cardinality(column_ids))
        || coalesce((SELECT string_agg(peer_internal.cbor_head(2, 16) || uuid_send(c.id), '' ORDER BY c.n) FROM unnest(column_ids) WITH ORDINALITY AS c(id, n)), '')
        || peer_internal.cbor_text('relation') || peer_internal.cbor_head(2, 16) || uuid_send(relation_id);
END
$$;
COMMENT ON FUNCTION peer_internal.encode_section_header(text, bytea, bigint, bigint, bytea[], uuid[], uuid) IS 'The description of one section inside a commit header.';

CREATE OR REPLACE FUNCTION peer_internal.encoded_sections(commit_no bigint) RETURNS bytea[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(peer_internal.encode_section_header(s.op, s.digest, s.row_count, s.byte_count, s.unseen, s.column_ids, s.relation_id)
                              ORDER BY s.section_no), '{}')
      FROM peer_internal.section AS s
     WHERE s.commit_no = encoded_sections.commit_no
$$;
COMMENT ON FUNCTION peer_internal.encoded_sections(bigint) IS 'The section descriptions of a commit, encoded, in order.';

CREATE OR REPLACE FUNCTION peer_internal.rank(hlc bigint, author bytea, digest bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT lpad(to_hex(hlc), 16, '0') || encode(author, 'hex') || encode(digest, 'hex')
$$;
COMMENT ON FUNCTION peer_internal.rank(bigint, bytea, bytea) IS 'The total order of writes as text to be compared bytewise (merge rule 2).';
