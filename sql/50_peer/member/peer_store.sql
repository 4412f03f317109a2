-- The peer store: where peers can be reached and who says so, so that those who know each other meet again with every hub down.

CREATE OR REPLACE FUNCTION peer_internal.store_peer_record(peer_id text, seq bigint, record bytea, label text, addresses text[], told_by text) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known peer_internal.peer_record;
BEGIN
    INSERT INTO peer_internal.peer_record (peer_id, seq, record, told_by)
    VALUES (store_peer_record.peer_id, store_peer_record.seq, store_peer_record.record, store_peer_record.told_by) ON CONFLICT ON CONSTRAINT peer_record_pkey DO NOTHING;
    IF NOT FOUND THEN
        SELECT x.* INTO STRICT known FROM peer_internal.peer_record AS x WHERE x.peer_id = store_peer_record.peer_id FOR UPDATE;
        IF known.seq > store_peer_record.seq THEN
            RETURN 'replay';
        ELSIF known.seq = store_peer_record.seq THEN
            RETURN CASE WHEN substr(known.record, 65) = substr(store_peer_record.record, 65) THEN 'known' ELSE 'equivocation' END;
        END IF;
        UPDATE peer_internal.peer_record AS x SET seq = store_peer_record.seq, record = store_peer_record.record, told_by = store_peer_record.told_by, received_at = clock_timestamp()
         WHERE x.peer_id = store_peer_record.peer_id;
    END IF;
    -- its last word takes the place of its former ones; what people entered or what has worked stays
    DELETE FROM peer_internal.peer_address AS a
     WHERE a.peer_id = store_peer_record.peer_id AND a.source = 'record' AND a.address <> ALL (store_peer_record.addresses) AND a.last_success IS NULL;
    INSERT INTO peer_internal.peer_address AS a (peer_id, address, source, told_by, seq)
    SELECT DISTINCT store_peer_record.peer_id, n.address, 'record', store_peer_record.told_by, store_peer_record.seq FROM unnest(store_peer_record.addresses) AS n(address)
     WHERE n.address ~ '^(tls|ws|wss)://[^[:space:]]+$' AND length(n.address) <= 2048
    ON CONFLICT ON CONSTRAINT peer_address_pkey DO UPDATE SET seq = EXCLUDED.seq, told_by = EXCLUDED.told_by WHERE a.source <> 'static';
    UPDATE peer_internal.author AS x SET label = left(store_peer_record.label, 200)
     WHERE x.peer_id = store_peer_record.peer_id AND store_peer_record.label <> '' AND x.label IS DISTINCT FROM left(store_peer_record.label, 200);
    RETURN 'new';
END
$$;
COMMENT ON FUNCTION peer_internal.store_peer_record(text, bigint, bytea, text, text[], text) IS
    'Takes what a peer says of itself; the caller has verified its signature. Returns new, or known, replay, equivocation: nothing changed.';

CREATE OR REPLACE FUNCTION peer_internal.note_address(peer_id text, address text, source text, told_by text DEFAULT NULL) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO peer_internal.peer_address AS a (peer_id, address, source, told_by)
    VALUES (note_address.peer_id, note_address.address, note_address.source, note_address.told_by)
    ON CONFLICT ON CONSTRAINT peer_address_pkey DO UPDATE SET source = EXCLUDED.source, told_by = EXCLUDED.told_by WHERE EXCLUDED.source = 'static'
$$;
COMMENT ON FUNCTION peer_internal.note_address(text, text, text, text) IS 'Remembers where a peer may be reached. What people here entered goes before everything else.';

CREATE OR REPLACE FUNCTION peer_internal.note_attempt(peer_id text, address text, succeeded boolean) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE peer_internal.peer_address AS a
       SET last_success = CASE WHEN succeeded THEN clock_timestamp() ELSE a.last_success END,
           last_failure = CASE WHEN succeeded THEN a.last_failure ELSE clock_timestamp() END,
           failures = CASE WHEN succeeded THEN 0 ELSE a.failures + 1 END
     WHERE a.peer_id = note_attempt.peer_id AND a.address = note_attempt.address
$$;
COMMENT ON FUNCTION peer_internal.note_attempt(text, text, boolean) IS 'How trying an address went.';

CREATE OR REPLACE FUNCTION peer_internal.addresses_to_try(peer_id text, max_addresses int) RETURNS TABLE (address text, source text, failures int)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.address, a.source, a.failures FROM peer_internal.peer_address AS a
     WHERE a.peer_id = addresses_to_try.peer_id
     ORDER BY a.source = 'static' DESC, a.failures, a.last_success DESC NULLS LAST, a.seq DESC NULLS LAST, a.address LIMIT max_addresses
$$;
COMMENT ON FUNCTION peer_internal.addresses_to_try(text, int) IS 'Where to try a peer: entered by people first, then what failed least, then what worked last.';

CREATE OR REPLACE FUNCTION peer_internal.records_for(peer_id text, sought text[] DEFAULT '{}') RETURNS TABLE (record bytea)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.record FROM peer_internal.peer_record AS r
     WHERE r.peer_id <> records_for.peer_id
       AND NOT EXISTS (SELECT FROM peer.friend AS f WHERE f.state = 'blocked' AND f.peer_id IN (r.peer_id, records_for.peer_id))
       AND (EXISTS (SELECT FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id)
                      JOIN peer_internal.member AS o USING (bundle_id) JOIN peer_internal.author AS b ON b.author_id = o.author_id
                     WHERE a.peer_id = r.peer_id AND b.peer_id = records_for.peer_id AND m.state = 'active' AND o.state = 'active')
            OR (r.peer_id = ANY (records_for.sought)
                AND (SELECT count(*) = 2 FROM peer.friend AS f WHERE f.state = 'accepted' AND f.peer_id IN (r.peer_id, records_for.peer_id))))
     ORDER BY r.received_at DESC LIMIT 256
$$;
COMMENT ON FUNCTION peer_internal.records_for(text, text[]) IS
    'The signed records that a peer may be told: those of peers with which it shares a bundle, and of friends that it has asked for and that have asked for it. So a common friend helps two that have lost each other.';
