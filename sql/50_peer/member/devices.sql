-- Devices of one owner: what its key has said of them, and what follows from that.

CREATE OR REPLACE FUNCTION peer_internal.is_own_device(peer_id text) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT is_own_device.peer_id <> peer.identity()
       AND EXISTS (SELECT FROM peer_internal.owner AS o JOIN peer_internal.device AS d USING (owner) WHERE d.peer_id = is_own_device.peer_id AND NOT d.is_revoked)
       AND EXISTS (SELECT FROM peer_internal.owner AS o JOIN peer_internal.device AS d USING (owner) WHERE d.peer_id = peer.identity() AND NOT d.is_revoked)
$$;
COMMENT ON FUNCTION peer_internal.is_own_device(text) IS 'Whether a peer is another device of the owner of this one, and neither is revoked.';

CREATE OR REPLACE FUNCTION peer_internal.trust_device(peer_id text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE peer.friend AS f SET state = 'accepted' WHERE f.peer_id = trust_device.peer_id AND f.state = 'requested' AND f.is_incoming AND peer_internal.is_own_device(f.peer_id);
    IF FOUND THEN
        PERFORM peer_internal.notify_friend(trust_device.peer_id, 'accept');
        PERFORM peer_internal.announce('friend-accepted', trust_device.peer_id, NULL, NULL, NULL, NULL, NULL, 'A device of the same owner had asked.', NULL);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.trust_device(text) IS 'Accepts what a peer has asked before it was known as a device of the same owner.';

CREATE OR REPLACE FUNCTION peer_internal.store_device(owner text, peer_id text, seq bigint, record bytea, label text, is_revoked boolean, told_by text) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known peer_internal.device;
    is_ours boolean := EXISTS (SELECT FROM peer_internal.owner AS o WHERE o.owner = store_device.owner);
    ended text;
BEGIN
    IF is_ours THEN
        IF (SELECT count(*) FROM peer_internal.device AS d WHERE d.owner = store_device.owner AND d.peer_id <> store_device.peer_id) >= 256 THEN
            RETURN 'ignored';
        END IF;
    ELSIF store_device.is_revoked OR NOT EXISTS (SELECT FROM peer.friend AS f WHERE f.peer_id = store_device.peer_id AND f.state <> 'blocked') THEN
        RETURN 'foreign';
    ELSE
        -- kept for the day when this database gets the same owner; one for each friend, and what was revoked once stays so
        DELETE FROM peer_internal.device AS d WHERE d.peer_id = store_device.peer_id AND d.owner <> store_device.owner AND NOT d.is_revoked
           AND NOT EXISTS (SELECT FROM peer_internal.owner AS o WHERE o.owner = d.owner);
    END IF;
    INSERT INTO peer_internal.device (owner, peer_id, seq, record, label, is_revoked, told_by)
    VALUES (store_device.owner, store_device.peer_id, store_device.seq, store_device.record, store_device.label, store_device.is_revoked, store_device.told_by)
    ON CONFLICT ON CONSTRAINT device_pkey DO NOTHING;
    IF NOT FOUND THEN
        SELECT d.* INTO STRICT known FROM peer_internal.device AS d WHERE d.owner = store_device.owner AND d.peer_id = store_device.peer_id FOR UPDATE;
        IF known.seq > store_device.seq THEN
            RETURN 'replay';
        ELSIF known.seq = store_device.seq AND substr(known.record, 65) = substr(store_device.record, 65) THEN
            RETURN 'known';
        ELSIF known.seq = store_device.seq AND (known.is_revoked OR NOT store_device.is_revoked) THEN
            RETURN 'equivocation';
        END IF;
        UPDATE peer_internal.device AS d
           SET seq = store_device.seq, record = store_device.record, label = store_device.label, is_revoked = store_device.is_revoked, told_by = store_device.told_by, received_at = clock_timestamp()
         WHERE d.owner = store_device.owner AND d.peer_id = store_device.peer_id;
    END IF;
    IF NOT is_ours THEN
        RETURN 'foreign';
    END IF;
    IF NOT store_device.is_revoked THEN
        IF known.seq IS NULL OR known.is_revoked THEN
            PERFORM peer_internal.announce('device-added', store_device.peer_id, NULL, NULL, NULL, NULL, NULL, store_device.label, NULL);
        END IF;
        PERFORM peer_internal.trust_device(store_device.peer_id);
    ELSIF known.seq IS NULL OR NOT known.is_revoked THEN
        PERFORM peer_internal.announce('device-revoked', store_device.peer_id, NULL, NULL, NULL, NULL, NULL, store_device.label,
                                       'If it is a member of bundles, let an admin remove it: SELECT peer.remove_member(…).');
        DELETE FROM peer.friend AS f WHERE f.peer_id = store_device.peer_id AND f.state <> 'blocked' RETURNING f.state INTO ended;
        IF FOUND THEN
            INSERT INTO peer_internal.former_friend (peer_id) VALUES (store_device.peer_id) ON CONFLICT ON CONSTRAINT former_friend_pkey DO UPDATE SET ended_at = clock_timestamp();
            DELETE FROM peer_internal.friend_notice AS n WHERE n.peer_id = store_device.peer_id;
            PERFORM peer_internal.announce('friend-ended', store_device.peer_id, NULL, NULL, NULL, NULL, NULL, 'The owner of both devices has revoked it.', NULL);
        END IF;
    END IF;
    PERFORM pg_notify('pgpeer_config', '');
    RETURN 'new';
END
$$;
COMMENT ON FUNCTION peer_internal.store_device(text, text, bigint, bytea, text, boolean, text) IS
    'Takes a word of an owner about a device; the caller has verified its signature. Returns new, or known, replay, equivocation, ignored, or foreign (of another owner): nothing follows.';

CREATE OR REPLACE FUNCTION peer_internal.device_records() RETURNS TABLE (record bytea)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.record FROM peer_internal.device AS d JOIN peer_internal.owner AS o USING (owner) ORDER BY d.is_revoked DESC, d.received_at DESC LIMIT 256
$$;
COMMENT ON FUNCTION peer_internal.device_records() IS 'What devices of one owner tell each other: its last words, revocations first.';

CREATE OR REPLACE FUNCTION peer_internal.own_certificate() RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.record FROM peer_internal.device AS d JOIN peer_internal.owner AS o USING (owner) WHERE d.peer_id = peer.identity() AND NOT d.is_revoked
$$;
COMMENT ON FUNCTION peer_internal.own_certificate() IS 'The certificate that this database is a device of its owner; NULL without an owner, or when it was revoked.';

CREATE OR REPLACE FUNCTION peer_internal.next_device_seq(owner text, peer_id text) RETURNS bigint
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(peer_internal.unix_milliseconds(clock_timestamp()),
                    (SELECT d.seq + 1 FROM peer_internal.device AS d WHERE d.owner = next_device_seq.owner AND d.peer_id = next_device_seq.peer_id))
$$;
COMMENT ON FUNCTION peer_internal.next_device_seq(text, text) IS 'The number for the next word of an owner about a device: greater than all that are known here.';

CREATE OR REPLACE FUNCTION peer_internal.adopt(owner text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present text;
BEGIN
    IF peer.identity() IS NULL THEN
        RAISE EXCEPTION 'this database has no identity yet' USING ERRCODE = 'PGI01', HINT = 'Run: pgpeer init --dsn …   It creates a key file and tells this database its public key.';
    END IF;
    INSERT INTO peer_internal.owner (owner) VALUES (adopt.owner) ON CONFLICT ON CONSTRAINT owner_pkey DO NOTHING;
    SELECT o.owner INTO STRICT present FROM peer_internal.owner AS o FOR UPDATE;
    IF present <> adopt.owner THEN
        RAISE EXCEPTION 'this database is a device of another owner' USING ERRCODE = 'PGF10', DETAIL = format('Its owner is %s.', present), HINT = 'Let it forget that one first: pgpeer owner disown.';
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.adopt(text) IS 'Gives this database an owner; its certificate is to be stored next, in the same transaction.';

CREATE OR REPLACE FUNCTION peer_internal.adopted() RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- who asked before the owner was known here, and who was asked before it could be shown
    SELECT peer_internal.trust_device(f.peer_id) FROM peer.friend AS f WHERE f.state = 'requested' AND f.is_incoming;
    SELECT peer_internal.notify_friend(f.peer_id, 'request', NULL, f.note) FROM peer.friend AS f WHERE f.state = 'requested' AND NOT f.is_incoming;
    SELECT pg_notify('pgpeer_config', '')
$$;
COMMENT ON FUNCTION peer_internal.adopted() IS 'What follows when this database has got an owner and a certificate.';

CREATE OR REPLACE FUNCTION peer_internal.disown() RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former text;
BEGIN
    DELETE FROM peer_internal.owner AS o RETURNING o.owner INTO former;
    -- what was revoked stays so, whoever shows an older certificate one day
    DELETE FROM peer_internal.device AS d WHERE d.owner = former AND NOT d.is_revoked;
    PERFORM pg_notify('pgpeer_config', '');
    RETURN former;
END
$$;
COMMENT ON FUNCTION peer_internal.disown() IS 'Forgets the owner of this database and its other devices; friends stay friends. Returns the owner, NULL when there was none.';
