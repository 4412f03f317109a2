-- Identity, events, problems and invites: what the worker and the public functions share.

CREATE OR REPLACE FUNCTION peer_internal.random_epoch() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- 53 bits, so that any JSON reader holds it exactly
    SELECT ('x' || left(replace(gen_random_uuid()::text, '-', ''), 12))::bit(48)::bigint * 16 + 1
$$;
COMMENT ON FUNCTION peer_internal.random_epoch() IS 'A new random epoch.';

CREATE OR REPLACE FUNCTION peer_internal.system_identifier() RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.system_identifier FROM pg_control_system() AS s
$$;
COMMENT ON FUNCTION peer_internal.system_identifier() IS 'The identifier of this cluster.';

CREATE OR REPLACE FUNCTION peer_internal.set_identity(public_key bytea, label text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before peer_internal.identity;
BEGIN
    SELECT i.* INTO before FROM peer_internal.identity AS i;
    IF FOUND AND before.public_key = set_identity.public_key AND before.system_identifier = peer_internal.system_identifier()
       AND before.database_oid = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()) THEN
        NULL;
    ELSE
        DELETE FROM peer_internal.identity;
        INSERT INTO peer_internal.identity (public_key, epoch, system_identifier, database_oid)
        SELECT set_identity.public_key, peer_internal.random_epoch(), peer_internal.system_identifier(), d.oid FROM pg_database AS d WHERE d.datname = current_database();
        IF before.public_key IS NOT NULL THEN
            PERFORM peer_internal.reauthor(b.bundle_id, before.public_key, before.epoch) FROM peer_internal.bundle AS b;
        END IF;
    END IF;
    PERFORM peer_internal.author_id(set_identity.public_key);
    IF set_identity.label IS NOT NULL THEN
        UPDATE peer.config SET label = set_identity.label;
    END IF;
    UPDATE peer_internal.author AS a SET label = (SELECT c.label FROM peer.config AS c) WHERE a.public_key = set_identity.public_key;
    RETURN peer_internal.peer_id(set_identity.public_key);
END
$$;
COMMENT ON FUNCTION peer_internal.set_identity(bytea, text) IS 'Says who this database is. Another key, or another place (a copy), begins a new epoch; unsigned commits are authored again. Returns the peer id.';

CREATE OR REPLACE FUNCTION peer_internal.renew_epoch() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before peer_internal.identity;
    new_epoch bigint := peer_internal.random_epoch();
BEGIN
    SELECT i.* INTO STRICT before FROM peer_internal.identity AS i;
    UPDATE peer_internal.identity AS i SET epoch = new_epoch, system_identifier = peer_internal.system_identifier(),
           database_oid = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database());
    PERFORM peer_internal.reauthor(b.bundle_id, before.public_key, before.epoch) FROM peer_internal.bundle AS b;
    RETURN new_epoch;
END
$$;
COMMENT ON FUNCTION peer_internal.renew_epoch() IS 'Goes on in a new epoch, after a restore: numbers of the old one may have been used already. Unsigned commits are authored again.';

CREATE OR REPLACE FUNCTION peer_internal.is_copy() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT i.system_identifier <> peer_internal.system_identifier()
                         OR i.database_oid <> (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                       FROM peer_internal.identity AS i), false)
$$;
COMMENT ON FUNCTION peer_internal.is_copy() IS 'Whether this database is a copy of the one whose identity it carries.';

CREATE TABLE IF NOT EXISTS peer_internal.worker_place (
    place text NOT NULL,
    since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT worker_place_pkey PRIMARY KEY (place)
);
COMMENT ON TABLE peer_internal.worker_place IS 'From where this database was served: a hash of machine and address. A copy of the data folder is served from somewhere else.';

CREATE OR REPLACE FUNCTION peer_internal.worker_arrive(place text) RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was_served boolean := EXISTS (SELECT FROM peer_internal.worker_place);
BEGIN
    INSERT INTO peer_internal.worker_place (place) VALUES (worker_arrive.place) ON CONFLICT ON CONSTRAINT worker_place_pkey DO NOTHING;
    RETURN FOUND AND was_served;
END
$$;
COMMENT ON FUNCTION peer_internal.worker_arrive(text) IS 'Remembers from where this database is served. True when it was served before, but never from there: it may be a copy.';

CREATE OR REPLACE FUNCTION peer_internal.try_worker_lock() RETURNS boolean
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_try_advisory_lock(peer_internal.lock_key(), 0)
$$;
COMMENT ON FUNCTION peer_internal.try_worker_lock() IS 'One worker per database: true when this session is now its session.';

CREATE OR REPLACE FUNCTION peer_internal.enter_worker_session() RETURNS int
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_backend_pid() FROM pg_advisory_lock_shared(peer_internal.lock_key(), 2147483647)
$$;
COMMENT ON FUNCTION peer_internal.enter_worker_session() IS 'Makes this session one of the worker: no other worker begins before it is over. Returns its process id.';

CREATE OR REPLACE FUNCTION peer_internal.no_worker_session() RETURNS boolean
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN pg_try_advisory_lock(peer_internal.lock_key(), 2147483647) THEN pg_advisory_unlock(peer_internal.lock_key(), 2147483647) ELSE false END
$$;
COMMENT ON FUNCTION peer_internal.no_worker_session() IS 'Whether every session of the former worker is over. Only for who has peer_internal.try_worker_lock.';

CREATE OR REPLACE FUNCTION peer_internal.worker_sessions() RETURNS TABLE (pid int)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT l.pid FROM pg_locks AS l
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND l.classid = peer_internal.lock_key()::oid AND l.objid IN (0, 2147483647) AND l.pid <> pg_backend_pid()
$$;
COMMENT ON FUNCTION peer_internal.worker_sessions() IS 'The sessions of the worker of this database, without this one.';

CREATE OR REPLACE FUNCTION peer_internal.end_worker_sessions() RETURNS int
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*)::int FROM peer_internal.worker_sessions() AS s WHERE pg_terminate_backend(s.pid)
$$;
COMMENT ON FUNCTION peer_internal.end_worker_sessions() IS 'Ends the sessions of a worker that hangs: what runs is rolled back, and it can write nothing more. Returns how many.';

CREATE OR REPLACE FUNCTION peer_internal.set_worker_awake(awake boolean) RETURNS bigint
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE peer_internal.worker AS w SET awake = set_worker_awake.awake RETURNING pg_current_xact_id()::text::bigint
$$;
COMMENT ON FUNCTION peer_internal.set_worker_awake(boolean) IS 'While awake is true writers do not NOTIFY. Returns the transaction id: writers with a lesser one may not have seen the change.';

CREATE OR REPLACE FUNCTION peer_internal.oldest_transaction() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint
$$;
COMMENT ON FUNCTION peer_internal.oldest_transaction() IS 'Every transaction with a lesser id is over.';

CREATE OR REPLACE FUNCTION peer_internal.announce(kind text, peer_id text, bundle text, connection_id uuid, phase text, code text, retryable boolean, detail text, hint text) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_id bigint;
BEGIN
    INSERT INTO peer.event (kind, peer_id, bundle, connection_id, phase, code, retryable, detail, hint)
    VALUES (announce.kind, announce.peer_id, announce.bundle, announce.connection_id, announce.phase, announce.code, announce.retryable, announce.detail, announce.hint)
    RETURNING id INTO new_id;
    PERFORM pg_notify('peer_event', new_id::text);
    RETURN new_id;
END
$$;
COMMENT ON FUNCTION peer_internal.announce(text, text, text, uuid, text, text, boolean, text, text) IS 'Writes an event and announces it.';

CREATE OR REPLACE FUNCTION peer_internal.report_problem(kind text, subject text, detail text, remedy text, bundle_id uuid DEFAULT NULL) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO peer_internal.reported_problem (kind, subject, detail, remedy, bundle_id)
    VALUES (report_problem.kind, report_problem.subject, report_problem.detail, report_problem.remedy, report_problem.bundle_id)
    ON CONFLICT ON CONSTRAINT reported_problem_pkey DO UPDATE SET detail = EXCLUDED.detail, remedy = EXCLUDED.remedy
$$;
COMMENT ON FUNCTION peer_internal.report_problem(text, text, text, text, uuid) IS 'Lists a problem in peer.problem until peer_internal.clear_problem is called for it.';

CREATE OR REPLACE FUNCTION peer_internal.clear_problem(kind text, subject text) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM peer_internal.reported_problem AS p WHERE p.kind = clear_problem.kind AND p.subject = clear_problem.subject
$$;
COMMENT ON FUNCTION peer_internal.clear_problem(text, text) IS 'The problem is over.';

CREATE OR REPLACE FUNCTION peer_internal.redeem_invite(invite_id uuid, secret text, public_key bytea, label text)
RETURNS TABLE (outcome text, bundle_id uuid, name text, commit_mode text, role text)
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i peer_internal.invite;
    known record;
BEGIN
    SELECT x.* INTO i FROM peer_internal.invite AS x WHERE x.invite_id = redeem_invite.invite_id FOR UPDATE;
    IF NOT FOUND OR i.secret_hash <> sha256(convert_to(redeem_invite.secret, 'UTF8')) THEN
        outcome := 'unknown_invite';
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT b.name, b.commit_mode INTO STRICT redeem_invite.name, redeem_invite.commit_mode FROM peer_internal.bundle AS b WHERE b.bundle_id = i.bundle_id;
    bundle_id := i.bundle_id;
    role := i.role;
    SELECT m.state INTO known FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id)
     WHERE m.bundle_id = i.bundle_id AND a.public_key = redeem_invite.public_key;
    IF known.state = 'active' THEN
        outcome := 'accepted';  -- the answer was lost on the way: the same peer asks again
    ELSIF i.expires_at < clock_timestamp() THEN
        outcome := 'expired_invite';
    ELSIF i.uses_left = 0 THEN
        outcome := 'used_invite';
    ELSE
        UPDATE peer_internal.invite AS x SET uses_left = x.uses_left - 1 WHERE x.invite_id = i.invite_id;
        PERFORM peer_internal.add_member(i.bundle_id, redeem_invite.public_key, i.role, redeem_invite.label);
        PERFORM peer_internal.request_role(i.bundle_id, redeem_invite.public_key, i.role);
        outcome := 'accepted';
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION peer_internal.redeem_invite(uuid, text, bytea, text) IS 'A peer presents an invite: accepted, or unknown_invite, expired_invite, used_invite. Asking again after acceptance is harmless.';

CREATE OR REPLACE FUNCTION peer_internal.add_member(bundle_id uuid, public_key bytea, role text, label text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    member_id int := peer_internal.author_id(add_member.public_key);
BEGIN
    IF add_member.label IS NOT NULL THEN
        UPDATE peer_internal.author AS a SET label = left(add_member.label, 200) WHERE a.author_id = member_id;
    END IF;
    INSERT INTO peer_internal.member (bundle_id, author_id, role) VALUES (add_member.bundle_id, member_id, add_member.role)
    ON CONFLICT ON CONSTRAINT member_pkey DO UPDATE SET state = 'active';
END
$$;
COMMENT ON FUNCTION peer_internal.add_member(uuid, bytea, text, text) IS 'Lets a peer exchange a bundle with this database.';

CREATE OR REPLACE FUNCTION peer_internal.bundle_id(bundle text) RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result uuid;
BEGIN
    SELECT b.bundle_id INTO result FROM peer_internal.bundle AS b WHERE b.name = bundle_id.bundle;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no bundle named %', coalesce(quote_literal(bundle), 'NULL') USING ERRCODE = 'PGB01',
            DETAIL = coalesce((SELECT 'Bundles here: ' || string_agg(quote_literal(b.name), ', ' ORDER BY b.name) || '.' FROM peer_internal.bundle AS b), 'There are no bundles here.'),
            HINT = 'Create it with SELECT peer.create_bundle(…), or join one with SELECT peer.join(…).';
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.bundle_id(text) IS 'The id of a bundle by its name, or an error that names the ones there are.';
