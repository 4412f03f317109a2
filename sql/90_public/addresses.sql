-- Addresses: where peers can be reached without a hub.

CREATE OR REPLACE FUNCTION peer.add_address(peer_id text, address text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM peer_internal.check_friend(add_address.peer_id);
    IF add_address.address IS NULL OR add_address.address !~ '^(tls|ws|wss)://[^[:space:]]+$' OR length(add_address.address) > 2048 THEN
        RAISE EXCEPTION '% is not an address', coalesce(quote_literal(left(add_address.address, 80)), 'NULL') USING ERRCODE = 'PGF09', HINT = 'For example tls://db.example.org:7432, or the ws:// or wss:// URL of a hub where the peer is.';
    END IF;
    PERFORM peer_internal.note_address(add_address.peer_id, add_address.address, 'static');
    PERFORM pg_notify('pgpeer_config', '');
END
$$;
COMMENT ON FUNCTION peer.add_address(text, text) IS 'Says where a peer can be reached (tls://host:port, or the ws:// or wss:// URL of a hub). It is tried before everything that was learned.';

CREATE OR REPLACE FUNCTION peer.remove_address(peer_id text, address text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM peer_internal.peer_address AS a WHERE a.peer_id = remove_address.peer_id AND a.address = remove_address.address;
    SELECT pg_notify('pgpeer_config', '')
$$;
COMMENT ON FUNCTION peer.remove_address(text, text) IS 'Forgets an address of a peer.';

DROP VIEW IF EXISTS peer.address;
CREATE VIEW peer.address AS
SELECT a.peer_id, a.address, a.source, a.told_by, a.seq, a.added_at, a.last_success, a.last_failure, a.failures FROM peer_internal.peer_address AS a;
COMMENT ON VIEW peer.address IS 'Where peers can be or could be reached, who said so, and how trying went.';
