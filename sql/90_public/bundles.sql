-- Bundles: create_bundle, track, untrack, commit.

CREATE OR REPLACE FUNCTION peer.create_bundle(name text, commit_mode text DEFAULT 'auto') RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_id uuid;
BEGIN
    IF coalesce(name, '') = '' OR length(name) > 200 THEN
        RAISE EXCEPTION 'a bundle needs a name of 1 to 200 characters' USING ERRCODE = 'PGB03', HINT = 'For example: SELECT peer.create_bundle(''atlas'');';
    END IF;
    IF commit_mode IS NULL OR commit_mode NOT IN ('auto', 'manual') THEN
        RAISE EXCEPTION 'unknown commit mode %', coalesce(quote_literal(commit_mode), 'NULL') USING ERRCODE = 'PGB04',
            HINT = 'Use ''auto'' (the worker commits as changes arrive) or ''manual'' (people commit).';
    END IF;
    INSERT INTO peer_internal.bundle (name, commit_mode) VALUES (create_bundle.name, create_bundle.commit_mode)
    ON CONFLICT ON CONSTRAINT bundle_name_key DO NOTHING RETURNING bundle_id INTO new_id;
    IF new_id IS NULL THEN
        RAISE EXCEPTION 'another bundle named % stands here already', quote_literal(name) USING ERRCODE = 'PGB02', HINT = 'Choose another name.';
    END IF;
    PERFORM pg_notify('pgpeer_config', '');
    RETURN new_id;
END
$$;
COMMENT ON FUNCTION peer.create_bundle(text, text) IS 'Creates an empty bundle. commit_mode ''auto'': the worker commits as changes arrive; ''manual'': people commit.';

CREATE OR REPLACE FUNCTION peer.track(bundle text, relation regclass, row_filter text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target_bundle uuid := peer_internal.bundle_id(track.bundle);
    no record;
    known record;
    description jsonb;
    new_id uuid;
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION 'which table shall be tracked?' USING ERRCODE = 'PGT11', HINT = 'SELECT peer.track(''atlas'', ''public.city'');';
    END IF;
    IF row_filter IS NOT NULL THEN
        RAISE EXCEPTION 'row filters are not available yet' USING ERRCODE = 'PGT12', HINT = 'Track the whole table, or a table of its own for the rows that travel.';
    END IF;
    SELECT b.name, r.is_tracked INTO known FROM peer_internal.relation AS r JOIN peer_internal.bundle AS b USING (bundle_id)
     WHERE r.relation = track.relation ORDER BY r.is_tracked DESC LIMIT 1;
    IF known.is_tracked THEN
        RAISE EXCEPTION 'table % is tracked already, in bundle %', relation, quote_literal(known.name) USING ERRCODE = 'PGT10',
            HINT = 'A table is in one bundle at most. SELECT peer.untrack(…) takes it out.';
    END IF;
    SELECT x.* INTO no FROM peer_internal.refusal(relation) AS x LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '%', no.message USING ERRCODE = no.sqlstate, DETAIL = no.detail, HINT = no.hint;
    END IF;
    PERFORM peer_internal.enter_bundle(target_bundle);
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', relation);
    description := peer_internal.describe_relation(relation);
    new_id := peer_internal.derived_uuid(target_bundle || '|' || (description ->> 'schema') || '|' || (description ->> 'name'));
    IF EXISTS (SELECT FROM peer_internal.relation AS r WHERE r.relation_id = new_id) THEN
        RAISE EXCEPTION 'table % was tracked in bundle % before and untracked here', relation, quote_literal(bundle) USING ERRCODE = 'PGT13',
            DETAIL = 'What others did to it since is known to the bundle but not to the table.', HINT = 'Track it in another bundle.';
    END IF;
    PERFORM peer_internal.register_relation(target_bundle, peer_internal.schema_document(new_id, description), relation);
    INSERT INTO peer_internal.pending_schema (relation_id, data) SELECT r.relation_id, r.description::text FROM peer_internal.relation AS r WHERE r.relation_id = new_id;
    PERFORM peer_internal.seal_bundle(target_bundle, 'track ' || relation::text, new_id);
END
$$;
COMMENT ON FUNCTION peer.track(text, regclass, text) IS 'Puts a table into a bundle. Its existing rows become a commit; from now on its changes are captured. Locks the table against writes until the transaction ends.';

CREATE OR REPLACE FUNCTION peer.untrack(relation regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r peer_internal.relation;
BEGIN
    SELECT x.* INTO r FROM peer_internal.relation AS x WHERE x.relation = untrack.relation AND x.is_tracked;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not tracked', coalesce(relation::text, 'NULL') USING ERRCODE = 'PGT14', HINT = 'The command  pgpeer bundle list  shows what is tracked.';
    END IF;
    PERFORM peer_internal.enter_bundle(r.bundle_id);
    -- nothing that was written so far gets lost; of a table that was dropped nothing is left to lock
    IF EXISTS (SELECT FROM pg_class AS c WHERE c.oid = untrack.relation) THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', relation);
    END IF;
    IF (SELECT b.commit_mode FROM peer_internal.bundle AS b WHERE b.bundle_id = r.bundle_id) = 'auto' THEN
        PERFORM peer_internal.seal_bundle(r.bundle_id);
    END IF;
    PERFORM peer_internal.remove_triggers(r.relation_id);
    DELETE FROM peer_internal.unseen AS u WHERE u.relation_id = r.relation_id;
    UPDATE peer_internal.relation AS x SET is_tracked = false WHERE x.relation_id = r.relation_id;
END
$$;
COMMENT ON FUNCTION peer.untrack(regclass) IS 'This database stops capturing and merging a table; its rows stay. Other members go on. Uncommitted changes of a manual bundle are no longer tracked.';

CREATE OR REPLACE FUNCTION peer.recapture(relation regclass) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT peer_internal.recapture(recapture.relation)
$$;
COMMENT ON FUNCTION peer.recapture(regclass) IS
    'For a table that was changed, or whose rows were changed with triggers off: puts capture right, and what differs from the merged commits becomes uncommitted changes. Reads the whole table and its history, and locks the table against writes until the transaction ends.';

CREATE OR REPLACE FUNCTION peer.commit(bundle text, message text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF octet_length(message) > 65536 THEN
        RAISE EXCEPTION 'a commit message has 64 KiB at most' USING ERRCODE = 'PGC02', HINT = 'Put long texts into a table.';
    END IF;
    RETURN peer_internal.commit_id(peer_internal.seal_bundle(peer_internal.bundle_id(commit.bundle), commit.message));
END
$$;
COMMENT ON FUNCTION peer.commit(text, text) IS 'Commits what has changed in a bundle and returns the commit id; NULL when nothing changed. Works with no worker running. Inside a transaction it holds the bundle lock until that transaction ends.';
