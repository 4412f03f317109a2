-- Peers: identity, invite, join.

CREATE OR REPLACE FUNCTION peer.identity() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT peer_internal.peer_id(i.public_key) FROM peer_internal.identity AS i
$$;
COMMENT ON FUNCTION peer.identity() IS 'The peer id of this database; NULL before pgpeer init.';

CREATE OR REPLACE FUNCTION peer.invite(bundle text, role text DEFAULT 'writer', expires interval DEFAULT '7 days', uses int DEFAULT 1) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target uuid := peer_internal.bundle_id(invite.bundle);
    -- 32 random bytes from the server's strong generator
    secret text := encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'hex');
    new_invite peer_internal.invite;
    hubs jsonb;
    own text;
BEGIN
    IF peer.identity() IS NULL THEN
        RAISE EXCEPTION 'this database has no identity yet' USING ERRCODE = 'PGI01', HINT = 'Run: pgpeer init --dsn …   It creates a key file and tells this database its public key.';
    END IF;
    IF role IS NULL OR role NOT IN ('reader', 'writer', 'admin') THEN
        RAISE EXCEPTION 'unknown role %', coalesce(quote_literal(role), 'NULL') USING ERRCODE = 'PGI02', HINT = 'Use ''reader'', ''writer'' or ''admin''.';
    END IF;
    IF expires IS NULL OR expires <= '0' OR uses IS NULL OR uses < 1 THEN
        RAISE EXCEPTION 'an invite needs a time to live and at least one use' USING ERRCODE = 'PGI03', HINT = 'For example expires => ''7 days'', uses => 1.';
    END IF;
    own := coalesce(peer_internal.own_role(target), 'removed');
    IF own NOT IN ('writer', 'admin') OR (own = 'writer' AND role = 'admin') THEN
        RAISE EXCEPTION '% of bundle % may not invite anybody as %', CASE own WHEN 'removed' THEN 'a former member' ELSE 'a ' || own END, quote_literal(invite.bundle), invite.role
            USING ERRCODE = 'PGI09', DETAIL = 'Writers invite readers and writers, admins invite anybody. ' || peer_internal.admins_sentence(target),
                  HINT = CASE own WHEN 'writer' THEN 'Invite as ''writer'', or let an admin invite.' ELSE 'Let an admin or a writer invite, or ask an admin for the role writer.' END;
    END IF;
    SELECT jsonb_agg(h.url ORDER BY (h.id = c.hub_id) DESC NULLS LAST, h.id) INTO hubs FROM peer.hub AS h CROSS JOIN peer.config AS c WHERE h.enabled;
    IF hubs IS NULL THEN
        RAISE EXCEPTION 'no hub is set: the invited peer could not find this one' USING ERRCODE = 'PGI04',
            HINT = 'INSERT INTO peer.hub (url) VALUES (''ws://…''), or run: pgpeer init --hub ws://…';
    END IF;
    INSERT INTO peer_internal.invite (bundle_id, secret_hash, role, uses_left, expires_at)
    VALUES (target, sha256(convert_to(secret, 'UTF8')), invite.role, uses, clock_timestamp() + expires) RETURNING * INTO new_invite;
    PERFORM pg_notify('pgpeer_config', '');  -- the worker lets in nobody while it knows of no invite
    RETURN 'pgpeer://join/1/' || translate(rtrim(translate(encode(convert_to(jsonb_build_object(
        'v', 1, 'invite', new_invite.invite_id, 'bundle', target, 'name', invite.bundle, 'inviter', peer.identity(), 'hubs', hubs, 'role', invite.role,
        'expires', extract(epoch FROM new_invite.expires_at)::bigint, 'secret', secret)::text, 'UTF8'), 'base64'), E'\n', ''), '='), '+/', '-_');
END
$$;
COMMENT ON FUNCTION peer.invite(text, text, interval, int) IS 'A link that lets another database join a bundle. Whoever has it may use it: send it on a private way. The secret is not kept here.';

CREATE OR REPLACE FUNCTION peer_internal.parse_invite(link text) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    body text := substr(btrim(link, E' \n\r\t'), length('pgpeer://join/1/') + 1);
    parsed jsonb;
BEGIN
    IF link IS NULL OR length(link) > 8192 OR btrim(link, E' \n\r\t') NOT LIKE 'pgpeer://join/1/%' THEN
        RETURN NULL;
    END IF;
    BEGIN
        parsed := convert_from(decode(translate(body, '-_', '+/') || repeat('=', (4 - length(body) % 4) % 4), 'base64'), 'UTF8')::jsonb;
        PERFORM (parsed ->> 'invite')::uuid, (parsed ->> 'bundle')::uuid, (parsed ->> 'expires')::bigint;
    EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire OR untranslatable_character THEN
        RETURN NULL;
    END;
    IF jsonb_typeof(parsed) <> 'object' OR parsed -> 'v' IS DISTINCT FROM '1' OR parsed ->> 'invite' IS NULL OR parsed ->> 'bundle' IS NULL OR parsed ->> 'expires' IS NULL
       OR coalesce(length(parsed ->> 'name'), 0) NOT BETWEEN 1 AND 200 OR coalesce(parsed ->> 'secret', '') !~ '^[0-9a-f]{64}$'
       OR coalesce(parsed ->> 'role', '') NOT IN ('reader', 'writer', 'admin') OR coalesce(parsed ->> 'inviter', '') !~ '^pg1[a-z2-7]{54}$'
       OR coalesce(jsonb_typeof(parsed -> 'hubs'), '') <> 'array' OR jsonb_array_length(parsed -> 'hubs') NOT BETWEEN 1 AND 16
       OR EXISTS (SELECT FROM jsonb_array_elements(parsed -> 'hubs') AS h(item) WHERE jsonb_typeof(h.item) <> 'string' OR h.item #>> '{}' !~ '^wss?://[^[:space:]]+$') THEN
        RETURN NULL;
    END IF;
    RETURN parsed;
END
$$;
COMMENT ON FUNCTION peer_internal.parse_invite(text) IS 'The contents of an invite link, or NULL when it is malformed.';

CREATE OR REPLACE FUNCTION peer.join(link text) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parsed jsonb := peer_internal.parse_invite($1);
    inviter_key bytea;
    new_id uuid;
BEGIN
    IF parsed IS NOT NULL THEN
        inviter_key := peer_internal.public_key(parsed ->> 'inviter');
    END IF;
    IF inviter_key IS NULL THEN
        RAISE EXCEPTION 'this is not a whole pgpeer invite' USING ERRCODE = 'PGI05', HINT = 'Copy the whole link, from pgpeer:// to its end, or ask for a new one: SELECT peer.invite(…).';
    END IF;
    IF peer.identity() IS NULL THEN
        RAISE EXCEPTION 'this database has no identity yet' USING ERRCODE = 'PGI01', HINT = 'Run: pgpeer init --dsn …   It creates a key file and tells this database its public key.';
    END IF;
    IF to_timestamp((parsed ->> 'expires')::bigint) < clock_timestamp() THEN
        RAISE EXCEPTION 'this invite expired at %', to_timestamp((parsed ->> 'expires')::bigint) USING ERRCODE = 'PGI06', HINT = 'Ask for a new one.';
    END IF;
    IF parsed ->> 'inviter' = peer.identity() THEN
        RAISE EXCEPTION 'this invite was made by this very database' USING ERRCODE = 'PGI07', HINT = 'Use it on another database.';
    END IF;
    IF EXISTS (SELECT FROM peer_internal.bundle AS b WHERE b.bundle_id = (parsed ->> 'bundle')::uuid) THEN
        RAISE EXCEPTION 'this database is a member of bundle % already', quote_literal(parsed ->> 'name') USING ERRCODE = 'PGI08', HINT = 'Nothing is to be done.';
    END IF;
    IF EXISTS (SELECT FROM peer_internal.bundle AS b WHERE b.name = parsed ->> 'name') THEN
        RAISE EXCEPTION 'another bundle named % stands here already', quote_literal(parsed ->> 'name') USING ERRCODE = 'PGB02', HINT = 'Leave or rename one of the two.';
    END IF;
    INSERT INTO peer.hub (name, url) SELECT 'from an invite', h.url FROM jsonb_array_elements_text(parsed -> 'hubs') AS h(url) ON CONFLICT ON CONSTRAINT hub_url_key DO NOTHING;
    UPDATE peer.config SET hub_id = (SELECT h.id FROM peer.hub AS h WHERE h.url = parsed -> 'hubs' ->> 0) WHERE hub_id IS NULL;
    INSERT INTO peer_internal.join_request (invite_id, bundle_id, bundle_name, inviter_key, secret, hubs, expires_at)
    VALUES ((parsed ->> 'invite')::uuid, (parsed ->> 'bundle')::uuid, parsed ->> 'name', inviter_key, parsed ->> 'secret',
            ARRAY(SELECT jsonb_array_elements_text(parsed -> 'hubs')), to_timestamp((parsed ->> 'expires')::bigint)) RETURNING request_id INTO new_id;
    PERFORM peer_internal.announce('join-requested', parsed ->> 'inviter', parsed ->> 'name', NULL, NULL, NULL, NULL, 'The worker takes it up.', NULL);
    PERFORM pg_notify('pgpeer_config', '');
    RETURN new_id;
END
$$;
COMMENT ON FUNCTION peer.join(text) IS 'Asks to join a bundle by an invite link. The worker does it: peer.event tells how it went, ''joined'' once the tables are there and filled.';

CREATE OR REPLACE FUNCTION peer_internal.public_key(peer_id text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bits bit varying := '';
    result bytea := '';
    n int;
BEGIN
    IF peer_id !~ '^pg1[a-z2-7]{54}$' THEN
        RETURN NULL;
    END IF;
    FOR n IN 4..55 LOOP
        bits := bits || (strpos('abcdefghijklmnopqrstuvwxyz234567', substr(peer_id, n, 1)) - 1)::bit(5);
    END LOOP;
    FOR n IN 0..31 LOOP
        result := result || set_byte(E'\\x00', 0, substring(bits FROM n * 8 + 1 FOR 8)::bit(8)::int);
    END LOOP;
    RETURN CASE WHEN peer_internal.peer_id(result) = public_key.peer_id THEN result END;
END
$$;
COMMENT ON FUNCTION peer_internal.public_key(text) IS 'The public key of a peer id; NULL when its check characters do not fit.';
