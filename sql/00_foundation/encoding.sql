-- Text and byte forms: base32, content identifiers (CIDv1), peer ids, COPY text fields.

CREATE OR REPLACE FUNCTION peer_internal.base32(value bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- RFC 4648 section 6, lower case, no padding: five bits a character, the last one filled with zero bits
    SELECT coalesce(string_agg(
               substr('abcdefghijklmnopqrstuvwxyz234567',
                      ((get_byte(padded, bit.first / 8) << 8 | get_byte(padded, bit.first / 8 + 1))
                       >> (11 - bit.first % 8)) % 32 + 1,
                      1), '' ORDER BY bit.first), '')
      FROM (SELECT value || E'\\x0000'::bytea) AS input(padded),
           generate_series(0, octet_length(value) * 8 - 1, 5) AS bit(first)
$$;
COMMENT ON FUNCTION peer_internal.base32(bytea) IS 'RFC 4648 base32, lower case, without padding.';

CREATE OR REPLACE FUNCTION peer_internal.commit_id(digest bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'b' || peer_internal.base32(E'\\x01711220'::bytea || digest)
$$;
COMMENT ON FUNCTION peer_internal.commit_id(bytea) IS 'CIDv1 (dag-cbor, sha2-256, base32) of a commit header with this sha256 digest.';

CREATE OR REPLACE FUNCTION peer_internal.section_id(digest bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'b' || peer_internal.base32(E'\\x01551220'::bytea || digest)
$$;
COMMENT ON FUNCTION peer_internal.section_id(bytea) IS 'CIDv1 (raw, sha2-256, base32) of a section with this sha256 digest.';

CREATE OR REPLACE FUNCTION peer_internal.peer_id(public_key bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- two check characters catch a mistyped id: the first ten bits of a domain-separated hash
    SELECT 'pg1' || peer_internal.base32(public_key)
        || left(peer_internal.base32(sha256('pgpeer/v1/peer-id'::bytea || public_key)), 2)
$$;
COMMENT ON FUNCTION peer_internal.peer_id(bytea) IS 'Self-certifying peer id of an Ed25519 public key.';

CREATE OR REPLACE FUNCTION peer_internal.unix_milliseconds(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT floor(extract(epoch FROM at) * 1000)::bigint
$$;
COMMENT ON FUNCTION peer_internal.unix_milliseconds(timestamptz) IS 'Milliseconds since 1970.';

CREATE OR REPLACE FUNCTION peer_internal.hlc_time(hlc bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT to_timestamp((hlc >> 16) / 1000.0)
$$;
COMMENT ON FUNCTION peer_internal.hlc_time(bigint) IS 'The wall-clock part of a hybrid logical clock value (milliseconds << 16 | counter).';

CREATE OR REPLACE FUNCTION peer_internal.escape_field(value text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    -- no SET clause: the planner must be able to inline this, it runs once per value of a seal
    SELECT pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(
               value, E'\\', E'\\\\'), E'\t', E'\\t'), E'\n', E'\\n'), E'\r', E'\\r')
$$;
COMMENT ON FUNCTION peer_internal.escape_field(text) IS 'A value as a COPY text field. NULL stays NULL.';

CREATE OR REPLACE FUNCTION peer_internal.unescape_pieces(field text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- after splitting at every escaped backslash a remaining backslash can only start \t, \n or \r
    SELECT string_agg(replace(replace(replace(piece, E'\\t', E'\t'), E'\\n', E'\n'), E'\\r', E'\r'), E'\\' ORDER BY n)
      FROM unnest(string_to_array(field, E'\\\\')) WITH ORDINALITY AS part(piece, n)
$$;
COMMENT ON FUNCTION peer_internal.unescape_pieces(text) IS 'Undoes peer_internal.escape_field for a field that holds a backslash.';

CREATE OR REPLACE FUNCTION peer_internal.unescape_field(field text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE WHEN pg_catalog.strpos(field, E'\\') = 0 THEN field ELSE peer_internal.unescape_pieces(field) END
$$;
COMMENT ON FUNCTION peer_internal.unescape_field(text) IS 'The value of a COPY text field that is not \N.';

CREATE OR REPLACE FUNCTION peer_internal.section_lines(data text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- by the array, not by left(): characters are counted from the start, and a section is long
    SELECT CASE WHEN data <> '' THEN trim_array(string_to_array(data, E'\n'), 1) END
$$;
COMMENT ON FUNCTION peer_internal.section_lines(text) IS 'The lines of a section, each of which ends in a newline.';

CREATE OR REPLACE FUNCTION peer_internal.split_line(line text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    -- an empty line is one empty field (the key ''), which string_to_array would call no field at all
    SELECT CASE WHEN line OPERATOR(pg_catalog.=) '' THEN ARRAY[''] ELSE pg_catalog.string_to_array(line, E'\t', E'\\N') END
$$;
COMMENT ON FUNCTION peer_internal.split_line(text) IS 'The fields of a section line or of a key text; NULL for \N.';

CREATE OR REPLACE FUNCTION peer_internal.key_text(line text, key_count int) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    -- STABLE, because array_to_string is, and not STRICT, because of the CASE: otherwise it would not be inlined
    SELECT CASE WHEN key_count OPERATOR(pg_catalog.=) 1 THEN pg_catalog.split_part(line, E'\t', 1)
                ELSE pg_catalog.array_to_string((pg_catalog.string_to_array(line, E'\t'))[:key_count], E'\t') END
$$;
COMMENT ON FUNCTION peer_internal.key_text(text, int) IS 'The key of a section line: its first fields, still escaped.';

CREATE OR REPLACE FUNCTION peer_internal.field_json(field text, type regtype) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result jsonb;
BEGIN
    IF field IS NULL THEN
        RETURN 'null'::jsonb;
    END IF;
    -- numbers, booleans and json keep their json form; everything else is the text that PostgreSQL prints
    EXECUTE format('SELECT to_jsonb(%s)', peer_internal.value_expression('$1', type)) INTO result USING field;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.field_json(text, regtype) IS 'A COPY text field (NULL for \N) as the jsonb value of its type.';
