-- Members: who has which role in a bundle.

CREATE OR REPLACE FUNCTION peer_internal.checked_key(peer_id text) RETURNS bytea
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result bytea := peer_internal.public_key(checked_key.peer_id);
BEGIN
    IF result IS NULL THEN
        RAISE EXCEPTION '% is not a peer id', coalesce(quote_literal(left(checked_key.peer_id, 80)), 'NULL') USING ERRCODE = 'PGF01',
            DETAIL = CASE WHEN checked_key.peer_id ~ '^pg1[a-z2-7]{54}$' THEN 'Its check characters do not fit: it has a typing mistake.'
                          ELSE 'A peer id has 57 characters, pg1 first, then a-z and 2-7.' END,
            HINT = 'Copy it again from SELECT peer.identity() on the other database.';
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.checked_key(text) IS 'The public key of a peer id, or an error that says what is wrong with it.';

CREATE OR REPLACE FUNCTION peer_internal.admins_sentence(bundle_id uuid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce('Admins: ' || string_agg(coalesce(a.label || ' ', '') || a.peer_id, ', ' ORDER BY a.peer_id) || '.', 'No admin is known here.')
      FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id)
     WHERE m.bundle_id = admins_sentence.bundle_id AND m.role = 'admin' AND m.state = 'active'
$$;
COMMENT ON FUNCTION peer_internal.admins_sentence(uuid) IS 'Who the admins of a bundle are, as a sentence for people.';

CREATE OR REPLACE FUNCTION peer_internal.ask_for_role(bundle text, peer_id text, role text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target uuid := peer_internal.bundle_id(ask_for_role.bundle);
    subject bytea := peer_internal.checked_key(ask_for_role.peer_id);
    own text;
    present text;
BEGIN
    IF peer.identity() IS NULL THEN
        RAISE EXCEPTION 'this database has no identity yet' USING ERRCODE = 'PGI01', HINT = 'Run: pgpeer init --dsn …   It creates a key file and tells this database its public key.';
    END IF;
    own := peer_internal.own_role(target);
    SELECT CASE m.state WHEN 'active' THEN m.role ELSE 'removed' END INTO present
      FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id) WHERE m.bundle_id = target AND a.public_key = subject;
    IF ask_for_role.peer_id = peer.identity() THEN
        IF own = 'admin' AND NOT EXISTS (SELECT FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id)
                                          WHERE m.bundle_id = target AND m.role = 'admin' AND m.state = 'active' AND a.public_key <> subject) THEN
            RAISE EXCEPTION 'this database is the last admin of bundle %', quote_literal(ask_for_role.bundle) USING ERRCODE = 'PGF03', HINT = 'Make another member admin first: SELECT peer.set_role(…).';
        END IF;
    ELSIF own IS DISTINCT FROM 'admin' THEN
        RAISE EXCEPTION 'only an admin of bundle % may change roles; this database is %', quote_literal(ask_for_role.bundle), coalesce(own, 'no member') USING ERRCODE = 'PGF02',
            DETAIL = peer_internal.admins_sentence(target), HINT = 'Ask an admin.';
    END IF;
    IF present IS NULL AND ask_for_role.peer_id <> peer.identity() THEN
        RAISE EXCEPTION 'that peer is no member of bundle %', quote_literal(ask_for_role.bundle) USING ERRCODE = 'PGF04', HINT = 'Invite it: SELECT peer.invite(…). Members: SELECT * FROM peer.member.';
    END IF;
    IF present IS DISTINCT FROM ask_for_role.role THEN
        PERFORM peer_internal.request_role(target, subject, ask_for_role.role);
    ELSE
        -- a change that was asked for and is not signed yet is taken back
        DELETE FROM peer_internal.grant_request AS q WHERE q.bundle_id = target AND q.subject = peer_internal.checked_key(ask_for_role.peer_id);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.ask_for_role(text, text, text) IS 'Checks a change of a role and leaves it to the worker to sign.';

CREATE OR REPLACE FUNCTION peer.set_role(bundle text, peer_id text, role text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF role IS NULL OR role NOT IN ('reader', 'writer', 'admin') THEN
        RAISE EXCEPTION 'unknown role %', coalesce(quote_literal(role), 'NULL') USING ERRCODE = 'PGI02', HINT = 'Use ''reader'', ''writer'' or ''admin''; peer.remove_member removes.';
    END IF;
    PERFORM peer_internal.ask_for_role(bundle, peer_id, role);
END
$$;
COMMENT ON FUNCTION peer.set_role(text, text, text) IS 'Gives a member another role, or a former one a role again. Only for admins. The worker signs it and tells all members; every one of them enforces it.';

CREATE OR REPLACE FUNCTION peer.remove_member(bundle text, peer_id text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT peer_internal.ask_for_role(remove_member.bundle, remove_member.peer_id, 'removed')
$$;
COMMENT ON FUNCTION peer.remove_member(text, text) IS 'Takes a member out of a bundle; with the own peer id: leaves it. Its commits that writers have merged stay; others of it are held by everybody.';
