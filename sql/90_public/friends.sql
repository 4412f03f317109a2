-- Friends: asking, accepting, blocking, ending, introducing.

CREATE OR REPLACE FUNCTION peer_internal.check_friend(peer_id text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM peer_internal.checked_key(check_friend.peer_id);
    IF check_friend.peer_id = peer.identity() THEN
        RAISE EXCEPTION 'that is the peer id of this very database' USING ERRCODE = 'PGF05', HINT = 'Give the one of another database: SELECT peer.identity() there.';
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.check_friend(text) IS 'Refuses what can be no friend.';

CREATE OR REPLACE FUNCTION peer.befriend(peer_id text, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present peer.friend;
BEGIN
    PERFORM peer_internal.check_friend(befriend.peer_id);
    IF length(befriend.note) > 500 THEN
        RAISE EXCEPTION 'a note has 500 characters at most' USING ERRCODE = 'PGF07', HINT = 'Shorten it.';
    END IF;
    DELETE FROM peer_internal.former_friend AS x WHERE x.peer_id = befriend.peer_id;
    INSERT INTO peer.friend (peer_id, label, note)
    SELECT befriend.peer_id, coalesce((SELECT i.label FROM peer_internal.introduction AS i WHERE i.peer_id = befriend.peer_id ORDER BY i.received_at LIMIT 1),
                                      (SELECT a.label FROM peer_internal.author AS a WHERE a.peer_id = befriend.peer_id)), befriend.note
    ON CONFLICT ON CONSTRAINT friend_pkey DO NOTHING;
    SELECT x.* INTO STRICT present FROM peer.friend AS x WHERE x.peer_id = befriend.peer_id FOR UPDATE;
    IF present.state = 'requested' AND present.is_incoming THEN
        PERFORM peer.accept(befriend.peer_id);
    ELSIF present.state = 'blocked' THEN
        UPDATE peer.friend AS x SET state = 'requested', is_incoming = false, note = befriend.note WHERE x.peer_id = befriend.peer_id;
        PERFORM peer_internal.notify_friend(befriend.peer_id, 'request', NULL, befriend.note);
    ELSIF present.state = 'requested' THEN
        PERFORM peer_internal.notify_friend(befriend.peer_id, 'request', NULL, befriend.note);
    END IF;
    DELETE FROM peer_internal.introduction AS i WHERE i.peer_id = befriend.peer_id;
END
$$;
COMMENT ON FUNCTION peer.befriend(text, text) IS 'Asks a peer to be a friend, or accepts when it has asked already. The worker tells it; it is a friend once it accepts. Lifts a block.';

CREATE OR REPLACE FUNCTION peer.accept(peer_id text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM peer_internal.check_friend(accept.peer_id);
    UPDATE peer.friend AS x SET state = 'accepted' WHERE x.peer_id = accept.peer_id AND x.state = 'requested' AND x.is_incoming;
    IF FOUND THEN
        PERFORM peer_internal.notify_friend(accept.peer_id, 'accept');
    ELSIF NOT EXISTS (SELECT FROM peer.friend AS x WHERE x.peer_id = accept.peer_id AND x.state = 'accepted') THEN
        RAISE EXCEPTION 'that peer has not asked to be a friend' USING ERRCODE = 'PGF06',
            DETAIL = CASE WHEN EXISTS (SELECT FROM peer.friend AS x WHERE x.peer_id = accept.peer_id AND x.state = 'requested') THEN 'It was asked from here and has not answered.'
                          WHEN EXISTS (SELECT FROM peer.friend AS x WHERE x.peer_id = accept.peer_id) THEN 'It is blocked here.' ELSE 'Nothing was heard of it.' END,
            HINT = 'Ask it: SELECT peer.befriend(…).';
    END IF;
END
$$;
COMMENT ON FUNCTION peer.accept(text) IS 'Accepts a peer that has asked to be a friend. Of a friend already: nothing changes.';

CREATE OR REPLACE FUNCTION peer.block(peer_id text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM peer_internal.check_friend(block.peer_id);
    INSERT INTO peer.friend (peer_id, state, label) VALUES (block.peer_id, 'blocked', (SELECT a.label FROM peer_internal.author AS a WHERE a.peer_id = block.peer_id))
    ON CONFLICT ON CONSTRAINT friend_pkey DO UPDATE SET state = 'blocked', is_incoming = false, note = NULL;
    DELETE FROM peer_internal.introduction AS i WHERE block.peer_id IN (i.peer_id, i.introduced_by);
    DELETE FROM peer_internal.friend_notice AS n WHERE n.peer_id = block.peer_id;
    INSERT INTO peer_internal.former_friend (peer_id) VALUES (block.peer_id) ON CONFLICT ON CONSTRAINT former_friend_pkey DO NOTHING;
    PERFORM pg_notify('pgpeer_config', '');
END
$$;
COMMENT ON FUNCTION peer.block(text) IS 'Ends all links with a peer and refuses it from now on, also as a member of a bundle. It gets no notice; when it tries to connect it is refused with refused_blocked. peer.befriend or peer.unfriend lift the block.';

CREATE OR REPLACE FUNCTION peer.unfriend(peer_id text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old_state text;
BEGIN
    PERFORM peer_internal.check_friend(unfriend.peer_id);
    DELETE FROM peer.friend AS x WHERE x.peer_id = unfriend.peer_id RETURNING x.state INTO old_state;
    IF old_state IN ('requested', 'accepted') THEN
        PERFORM peer_internal.notify_friend(unfriend.peer_id, 'end');
    END IF;
    DELETE FROM peer_internal.introduction AS i WHERE unfriend.peer_id IN (i.peer_id, i.introduced_by);
    INSERT INTO peer_internal.former_friend (peer_id) VALUES (unfriend.peer_id) ON CONFLICT ON CONSTRAINT former_friend_pkey DO UPDATE SET ended_at = clock_timestamp();
    PERFORM pg_notify('pgpeer_config', '');
END
$$;
COMMENT ON FUNCTION peer.unfriend(text) IS 'Ends a friendship, takes back or turns down a request, or lifts a block. Introductions of that peer are ignored until it is befriended again. Common bundles go on.';

CREATE OR REPLACE FUNCTION peer.introduce(peer_id text, to_peer_id text, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM peer_internal.check_friend(introduce.peer_id), peer_internal.check_friend(introduce.to_peer_id);
    IF length(introduce.note) > 500 THEN
        RAISE EXCEPTION 'a note has 500 characters at most' USING ERRCODE = 'PGF07', HINT = 'Shorten it.';
    END IF;
    IF introduce.peer_id = introduce.to_peer_id
       OR (SELECT count(*) FROM peer.friend AS f WHERE f.peer_id IN (introduce.peer_id, introduce.to_peer_id) AND f.state = 'accepted') < 2 THEN
        RAISE EXCEPTION 'only two friends can be introduced to each other' USING ERRCODE = 'PGF08', HINT = 'SELECT * FROM peer.friend shows who is one: state accepted.';
    END IF;
    PERFORM peer_internal.notify_friend(introduce.peer_id, 'introduce', introduce.to_peer_id, introduce.note);
    PERFORM peer_internal.notify_friend(introduce.to_peer_id, 'introduce', introduce.peer_id, introduce.note);
END
$$;
COMMENT ON FUNCTION peer.introduce(text, text, text) IS 'Tells two friends of each other. It is a suggestion: each of them decides (peer.suggestion, peer.befriend).';

DROP VIEW IF EXISTS peer.suggestion;
CREATE VIEW peer.suggestion AS
SELECT i.peer_id, i.label, i.introduced_by, i.note, i.received_at AS suggested_at FROM peer_internal.introduction AS i;
COMMENT ON VIEW peer.suggestion IS 'Peers that friends have introduced. SELECT peer.befriend(peer_id) follows a suggestion, peer.unfriend(peer_id) dismisses it for good.';
