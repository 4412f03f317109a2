-- Friends: what the other side says, and who may connect.

CREATE OR REPLACE FUNCTION peer_internal.notify_friend(peer_id text, kind text, subject text DEFAULT NULL, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF notify_friend.kind <> 'introduce' THEN
        -- only the last word counts
        DELETE FROM peer_internal.friend_notice AS n WHERE n.peer_id = notify_friend.peer_id AND n.kind <> 'introduce';
    END IF;
    INSERT INTO peer_internal.friend_notice (peer_id, kind, subject, note) VALUES (notify_friend.peer_id, notify_friend.kind, notify_friend.subject, notify_friend.note);
    PERFORM pg_notify('pgpeer_config', '');
END
$$;
COMMENT ON FUNCTION peer_internal.notify_friend(text, text, text, text) IS 'Leaves word for a peer; the worker signs and delivers it.';

CREATE OR REPLACE FUNCTION peer_internal.hear_friend(peer_id text, seq bigint, digest bytea, kind text, label text, note text) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f peer.friend;
    heard record;
    outcome text;
BEGIN
    SELECT h.seq, h.digest INTO heard FROM peer_internal.friend_heard AS h WHERE h.peer_id = hear_friend.peer_id FOR UPDATE;
    IF heard.seq >= hear_friend.seq THEN
        RETURN CASE WHEN heard.seq = hear_friend.seq AND heard.digest <> hear_friend.digest THEN 'equivocation' WHEN heard.seq = hear_friend.seq THEN 'known' ELSE 'replay' END;
    END IF;
    INSERT INTO peer_internal.friend_heard (peer_id, seq, digest) VALUES (hear_friend.peer_id, hear_friend.seq, hear_friend.digest)
    ON CONFLICT ON CONSTRAINT friend_heard_pkey DO UPDATE SET seq = EXCLUDED.seq, digest = EXCLUDED.digest;
    SELECT x.* INTO f FROM peer.friend AS x WHERE x.peer_id = hear_friend.peer_id FOR UPDATE;
    CASE
        WHEN f.state = 'blocked' THEN
            RETURN 'blocked';  -- and nobody is told
        WHEN hear_friend.kind = 'request' AND (f.state IS NULL OR (f.state = 'requested' AND f.is_incoming)) AND peer_internal.is_own_device(hear_friend.peer_id) THEN
            -- nobody has to be asked: the owner of both has said so
            INSERT INTO peer.friend AS x (peer_id, label, state, is_incoming, note) VALUES (hear_friend.peer_id, left(hear_friend.label, 200), 'accepted', true, left(hear_friend.note, 500))
            ON CONFLICT ON CONSTRAINT friend_pkey DO UPDATE SET state = 'accepted';
            PERFORM peer_internal.notify_friend(hear_friend.peer_id, 'accept');
            outcome := 'friend-accepted';
        WHEN hear_friend.kind = 'request' AND f.state IS NULL AND (SELECT count(*) FROM peer.friend AS x WHERE x.state = 'requested' AND x.is_incoming) >= 256 THEN
            RETURN 'ignored';  -- a flood
        WHEN hear_friend.kind = 'request' AND f.state IS NULL THEN
            INSERT INTO peer.friend (peer_id, label, state, is_incoming, note) VALUES (hear_friend.peer_id, left(hear_friend.label, 200), 'requested', true, left(hear_friend.note, 500));
            outcome := 'friend-requested';
        WHEN hear_friend.kind = 'request' AND f.state = 'requested' AND NOT f.is_incoming THEN
            -- both have asked
            UPDATE peer.friend AS x SET state = 'accepted' WHERE x.peer_id = hear_friend.peer_id;
            PERFORM peer_internal.notify_friend(hear_friend.peer_id, 'accept');
            outcome := 'friend-accepted';
        WHEN hear_friend.kind = 'request' AND f.state = 'accepted' THEN
            -- the other side has lost it, as after a restore
            PERFORM peer_internal.notify_friend(hear_friend.peer_id, 'accept');
            RETURN 'known';
        WHEN hear_friend.kind = 'accept' AND f.state = 'requested' AND NOT f.is_incoming THEN
            UPDATE peer.friend AS x SET state = 'accepted' WHERE x.peer_id = hear_friend.peer_id;
            outcome := 'friend-accepted';
        WHEN hear_friend.kind = 'end' AND f.state IS NOT NULL THEN
            DELETE FROM peer.friend AS x WHERE x.peer_id = hear_friend.peer_id;
            outcome := 'friend-ended';
        ELSE
            RETURN 'ignored';
    END CASE;
    IF outcome = 'friend-requested' THEN
        PERFORM peer_internal.announce('friend-requested', hear_friend.peer_id, NULL, NULL, NULL, NULL, NULL, coalesce(nullif(hear_friend.note, ''), hear_friend.label),
                                       'SELECT peer.accept(…), peer.unfriend(…) to turn it down, or peer.block(…).');
    ELSIF outcome = 'friend-accepted' THEN
        PERFORM peer_internal.announce('friend-accepted', hear_friend.peer_id, NULL, NULL, NULL, NULL, NULL, hear_friend.label, NULL);
    ELSE
        PERFORM peer_internal.announce('friend-ended', hear_friend.peer_id, NULL, NULL, NULL, NULL, NULL, hear_friend.label, NULL);
    END IF;
    PERFORM pg_notify('pgpeer_config', '');
    RETURN outcome;
END
$$;
COMMENT ON FUNCTION peer_internal.hear_friend(text, bigint, bytea, text, text, text) IS
    'A peer asks to be a friend, accepts, or ends it; the caller has verified its signature. Returns the event, or blocked, known, replay, equivocation, ignored: nothing changed.';

CREATE OR REPLACE FUNCTION peer_internal.hear_introduction(introduced_by text, seq bigint, peer_id text, label text, note text, record bytea) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM peer.friend AS f WHERE f.peer_id = hear_introduction.introduced_by AND f.state = 'accepted') THEN
        RETURN 'ignored';
    END IF;
    -- removal wins over it, and what is settled stays so
    IF hear_introduction.peer_id = peer.identity() OR peer_internal.public_key(hear_introduction.peer_id) IS NULL
       OR EXISTS (SELECT FROM peer_internal.former_friend AS x WHERE x.peer_id = hear_introduction.peer_id)
       OR EXISTS (SELECT FROM peer.friend AS f WHERE f.peer_id = hear_introduction.peer_id) THEN
        RETURN 'ignored';
    END IF;
    INSERT INTO peer_internal.introduction AS i (peer_id, introduced_by, seq, label, note, record)
    VALUES (hear_introduction.peer_id, hear_introduction.introduced_by, hear_introduction.seq, left(hear_introduction.label, 200), left(hear_introduction.note, 500), hear_introduction.record)
    ON CONFLICT ON CONSTRAINT introduction_pkey DO UPDATE SET seq = EXCLUDED.seq, label = EXCLUDED.label, note = EXCLUDED.note, record = EXCLUDED.record, received_at = clock_timestamp()
     WHERE i.seq < EXCLUDED.seq;
    IF NOT FOUND THEN
        RETURN 'replay';
    END IF;
    PERFORM peer_internal.announce('friend-suggested', hear_introduction.peer_id, NULL, NULL, NULL, NULL, NULL, format('%s introduces %s.', hear_introduction.introduced_by, coalesce(nullif(hear_introduction.label, ''), hear_introduction.peer_id)),
                                   'To follow it: SELECT peer.befriend(…). Nothing happens by itself.');
    RETURN 'friend-suggested';
END
$$;
COMMENT ON FUNCTION peer_internal.hear_introduction(text, bigint, text, text, text, bytea) IS
    'A friend suggests another peer; the caller has verified its signature. Returns friend-suggested, or replay or ignored: nothing changed.';

CREATE OR REPLACE FUNCTION peer_internal.may_connect(peer_id text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN peer_internal.public_key(may_connect.peer_id) IS NULL THEN 'refused'
        WHEN f.state = 'blocked' THEN 'blocked'
        WHEN EXISTS (SELECT FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id) WHERE a.peer_id = may_connect.peer_id AND m.state = 'active') THEN 'member'
        WHEN EXISTS (SELECT FROM peer_internal.join_request AS j WHERE j.state = 'requested' AND peer_internal.peer_id(j.inviter_key) = may_connect.peer_id) THEN 'inviter'
        WHEN peer_internal.is_own_device(may_connect.peer_id) THEN 'device'
        WHEN c.accept IN ('friends', 'open') AND f.state = 'accepted' THEN 'friend'
        WHEN c.accept = 'open' THEN 'open'
        WHEN EXISTS (SELECT FROM peer_internal.invite AS i WHERE i.uses_left > 0 AND i.expires_at > clock_timestamp()) THEN 'invite'
        ELSE 'refused' END
      FROM peer.config AS c LEFT JOIN peer.friend AS f ON f.peer_id = may_connect.peer_id
$$;
COMMENT ON FUNCTION peer_internal.may_connect(text) IS
    'By what right a peer may connect: member, inviter, device (of the same owner), friend, open, or invite (if it presents a good one soon); blocked or refused. peer.config.accept decides for those who share no bundle.';

CREATE OR REPLACE FUNCTION peer_internal.friend_notices() RETURNS TABLE (notice_id bigint, peer_id text, kind text, subject text, note text, label text)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT n.notice_id, n.peer_id, n.kind, n.subject, n.note,
           CASE n.kind WHEN 'introduce' THEN (SELECT f.label FROM peer.friend AS f WHERE f.peer_id = n.subject) ELSE (SELECT c.label FROM peer.config AS c) END
      FROM peer_internal.friend_notice AS n ORDER BY n.notice_id LIMIT 100
$$;
COMMENT ON FUNCTION peer_internal.friend_notices() IS 'What peers shall be told, in order.';

CREATE OR REPLACE FUNCTION peer_internal.friend_told(notice_id bigint) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM peer_internal.friend_notice AS n WHERE n.notice_id = friend_told.notice_id
$$;
COMMENT ON FUNCTION peer_internal.friend_told(bigint) IS 'The peer has got it.';
