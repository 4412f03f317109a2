-- Deterministic CBOR (RFC 8949 section 4.2, DAG-CBOR): just what a commit header needs.

CREATE OR REPLACE FUNCTION peer_internal.cbor_head(major int, value bigint) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN value < 24 THEN set_byte(E'\\x00', 0, (major << 5) + value::int)
                WHEN value < 256 THEN set_byte(E'\\x00', 0, (major << 5) + 24) || substr(int8send(value), 8)
                WHEN value < 65536 THEN set_byte(E'\\x00', 0, (major << 5) + 25) || substr(int8send(value), 7)
                WHEN value < 4294967296 THEN set_byte(E'\\x00', 0, (major << 5) + 26) || substr(int8send(value), 5)
                ELSE set_byte(E'\\x00', 0, (major << 5) + 27) || int8send(value) END;
END
$$;
COMMENT ON FUNCTION peer_internal.cbor_head(int, bigint) IS 'The head of a CBOR item: major type and shortest argument.';

CREATE OR REPLACE FUNCTION peer_internal.cbor_text(value text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce(peer_internal.cbor_head(3, octet_length(convert_to(value, 'UTF8'))) || convert_to(value, 'UTF8'), E'\\xf6');
END
$$;
COMMENT ON FUNCTION peer_internal.cbor_text(text) IS 'A CBOR text string, or null.';

CREATE OR REPLACE FUNCTION peer_internal.cbor_bytes(value bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN peer_internal.cbor_head(2, octet_length(value)) || value;
END
$$;
COMMENT ON FUNCTION peer_internal.cbor_bytes(bytea) IS 'A CBOR byte string.';

CREATE OR REPLACE FUNCTION peer_internal.cbor_array(items bytea[]) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT peer_internal.cbor_head(4, cardinality(items))
        || coalesce((SELECT string_agg(i.item, '' ORDER BY i.n) FROM unnest(items) WITH ORDINALITY AS i(item, n)), '')
$$;
COMMENT ON FUNCTION peer_internal.cbor_array(bytea[]) IS 'A CBOR array of items that are already encoded.';

CREATE OR REPLACE FUNCTION peer_internal.cbor_cid(codec int, digest bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- tag 42 over the 37 bytes of 0x00 and the binary CIDv1 (DAG-CBOR specification, "Links")
    RETURN coalesce(E'\\xd82a58250001'::bytea || set_byte(E'\\x00', 0, codec) || E'\\x1220'::bytea || digest, E'\\xf6');
END
$$;
COMMENT ON FUNCTION peer_internal.cbor_cid(int, bytea) IS 'A DAG-CBOR link to the block with this sha256 digest (codec 113 dag-cbor, 85 raw), or null.';

CREATE OR REPLACE FUNCTION peer_internal.cbor_cids(digests bytea[]) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF digests = '{}' THEN
        RETURN peer_internal.cbor_head(4, 0);
    END IF;
    RETURN peer_internal.cbor_array((SELECT array_agg(peer_internal.cbor_cid(113, d.digest) ORDER BY d.digest) FROM unnest(digests) AS d(digest)));
END
$$;
COMMENT ON FUNCTION peer_internal.cbor_cids(bytea[]) IS 'A CBOR array of links to commits, sorted.';
