-- The state of a hub in PostgreSQL: who is listed where, mail, and which process serves whom. May run again.

CREATE SCHEMA IF NOT EXISTS hub;
COMMENT ON SCHEMA hub IS 'State of a pgpeer hub. Several hub processes on one database serve one community.';

CREATE SEQUENCE IF NOT EXISTS hub.position;
COMMENT ON SEQUENCE hub.position IS 'Orders the changes of namespaces, and the connections of a peer.';

CREATE TABLE IF NOT EXISTS hub.community (
    one_row bool NOT NULL DEFAULT true,
    hub_id text NOT NULL,
    schema_digest text NOT NULL,
    CONSTRAINT community_pkey PRIMARY KEY (one_row),
    CONSTRAINT community_one_row_check CHECK (one_row)
);
COMMENT ON TABLE hub.community IS 'Who this hub is, for all its processes; one row.';
COMMENT ON COLUMN hub.community.schema_digest IS 'Hash of the file that made the schema: equal means that nothing is to be done.';

CREATE TABLE IF NOT EXISTS hub.process (
    process bigint GENERATED ALWAYS AS IDENTITY,
    url text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT process_pkey PRIMARY KEY (process)
);
COMMENT ON TABLE hub.process IS 'The processes of this hub. One that says nothing for 20 seconds is dead.';

CREATE TABLE IF NOT EXISTS hub.presence (
    peer_id text NOT NULL,
    process bigint NOT NULL,
    session bigint NOT NULL,
    label text NOT NULL,
    CONSTRAINT presence_pkey PRIMARY KEY (peer_id),
    CONSTRAINT presence_process_fkey FOREIGN KEY (process) REFERENCES hub.process (process) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS presence_process_idx ON hub.presence (process);
COMMENT ON TABLE hub.presence IS 'Who is online at which process. The connection with the highest session counts.';

CREATE TABLE IF NOT EXISTS hub.registration (
    namespace text NOT NULL,
    peer_id text NOT NULL,
    seq bigint NOT NULL,
    record bytea NOT NULL,
    position bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT registration_pkey PRIMARY KEY (namespace, peer_id)
);
CREATE INDEX IF NOT EXISTS registration_namespace_position_idx ON hub.registration (namespace, position);
CREATE INDEX IF NOT EXISTS registration_peer_id_idx ON hub.registration (peer_id);
CREATE INDEX IF NOT EXISTS registration_expires_at_idx ON hub.registration (expires_at);
COMMENT ON TABLE hub.registration IS 'Who can be found in which namespace, by signed records.';

CREATE TABLE IF NOT EXISTS hub.mail (
    mail bigint GENERATED ALWAYS AS IDENTITY,
    recipient text NOT NULL,
    sender text NOT NULL,
    box bytea NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT mail_pkey PRIMARY KEY (mail)
);
CREATE INDEX IF NOT EXISTS mail_recipient_mail_idx ON hub.mail (recipient, mail);
CREATE INDEX IF NOT EXISTS mail_sender_idx ON hub.mail (sender);
CREATE INDEX IF NOT EXISTS mail_expires_at_idx ON hub.mail (expires_at);
COMMENT ON TABLE hub.mail IS 'Sealed boxes for peers, until they say that they have taken them.';

CREATE TABLE IF NOT EXISTS hub.notice (
    notice bigint GENERATED ALWAYS AS IDENTITY,
    body text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT notice_pkey PRIMARY KEY (notice)
);
COMMENT ON TABLE hub.notice IS 'Notices between processes that are too long for NOTIFY, which then carries their number. Kept for a minute.';

CREATE OR REPLACE FUNCTION hub.notify(channel text, body jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written text := notify.body::text;
    number bigint;
BEGIN
    IF octet_length(written) >= 7900 THEN -- NOTIFY takes less than 8000 bytes
        INSERT INTO hub.notice (body) VALUES (written) RETURNING notice INTO number;
        written := '#' || number;
    END IF;
    PERFORM pg_notify(notify.channel, written);
END
$$;
COMMENT ON FUNCTION hub.notify(text, jsonb) IS 'Gives a notice of any length to the processes that listen.';

CREATE OR REPLACE FUNCTION hub.begin(url text) RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO hub.process (url) VALUES (begin.url) RETURNING process
$$;
COMMENT ON FUNCTION hub.begin(text) IS 'Enters a process that clients reach at this URL, and gives its number.';

CREATE OR REPLACE FUNCTION hub.leave(process bigint) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone jsonb;
BEGIN
    PERFORM FROM hub.process AS p WHERE p.process = leave.process FOR UPDATE; -- presence of it waits, or is seen below
    WITH removed AS (DELETE FROM hub.presence AS p WHERE p.process = leave.process RETURNING p.peer_id)
    SELECT jsonb_agg(removed.peer_id) INTO gone FROM removed;
    DELETE FROM hub.process AS p WHERE p.process = leave.process;
    IF gone IS NOT NULL THEN
        PERFORM hub.notify('hub_all', jsonb_build_object('k', 'presence', 'p', leave.process, 'on', '[]'::jsonb, 'off', gone));
    END IF;
END
$$;
COMMENT ON FUNCTION hub.leave(bigint) IS 'Removes a process; its peers are offline.';

CREATE OR REPLACE FUNCTION hub.announce(process bigint, peer_ids text[], labels text[], gone text[]) RETURNS TABLE (peer_id text, session bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    arrived jsonb;
    removed jsonb;
BEGIN
    -- in one order everywhere, so that two processes never wait for each other
    PERFORM FROM hub.presence AS p WHERE p.peer_id = ANY (announce.peer_ids || announce.gone) ORDER BY p.peer_id FOR UPDATE;
    WITH deleted AS (
        DELETE FROM hub.presence AS p WHERE p.process = announce.process AND p.peer_id = ANY (announce.gone) RETURNING p.peer_id
    )
    SELECT coalesce(jsonb_agg(d.peer_id), '[]') INTO removed FROM deleted AS d;
    WITH entered AS (
        INSERT INTO hub.presence AS p (peer_id, process, session, label)
        SELECT u.peer_id, announce.process, nextval('hub.position'), u.label
          FROM unnest(announce.peer_ids, announce.labels) AS u(peer_id, label) ORDER BY u.peer_id
            ON CONFLICT (peer_id) DO UPDATE SET process = excluded.process, session = nextval('hub.position'), label = excluded.label
        RETURNING p.peer_id, p.session, p.label
    )
    SELECT coalesce(jsonb_agg(jsonb_build_array(e.peer_id, e.session, e.label)), '[]') INTO arrived FROM entered AS e;
    IF arrived <> '[]' OR removed <> '[]' THEN
        PERFORM hub.notify('hub_all', jsonb_build_object('k', 'presence', 'p', announce.process, 'on', arrived, 'off', removed));
    END IF;
    RETURN QUERY SELECT a.entry ->> 0, (a.entry ->> 1)::bigint FROM jsonb_array_elements(arrived) AS a(entry);
END
$$;
COMMENT ON FUNCTION hub.announce(bigint, text[], text[], text[]) IS 'Tells all processes which peers came to one of them (with labels) and which left it; gives the sessions of those that came.';

CREATE OR REPLACE FUNCTION hub.register(namespace text, peer_id text, seq bigint, record bytea, seconds double precision, most int) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known hub.registration;
BEGIN
    -- positions of one namespace become visible in their order, so a reader misses none
    PERFORM pg_advisory_xact_lock(hashtextextended('pgpeer/hub/' || register.namespace, 0));
    SELECT r.* INTO known FROM hub.registration AS r WHERE r.namespace = register.namespace AND r.peer_id = register.peer_id;
    IF known.seq > register.seq THEN
        RETURN 'older';
    ELSIF known.seq = register.seq AND known.record <> register.record THEN
        RETURN 'same_number';
    ELSIF known.record = register.record AND known.expires_at > clock_timestamp() THEN -- nothing that others do not know
        UPDATE hub.registration AS r SET expires_at = clock_timestamp() + make_interval(secs => register.seconds)
         WHERE r.namespace = register.namespace AND r.peer_id = register.peer_id;
        RETURN 'ok';
    ELSIF known.seq IS NULL AND (SELECT count(*) FROM hub.registration AS r WHERE r.peer_id = register.peer_id) >= register.most THEN
        RETURN 'quota';
    END IF;
    INSERT INTO hub.registration AS r (namespace, peer_id, seq, record, position, expires_at)
    VALUES (register.namespace, register.peer_id, register.seq, register.record, nextval('hub.position'), clock_timestamp() + make_interval(secs => register.seconds))
    ON CONFLICT ON CONSTRAINT registration_pkey DO UPDATE SET seq = excluded.seq, record = excluded.record, position = excluded.position, expires_at = excluded.expires_at;
    PERFORM hub.notify('hub_all', jsonb_build_object('k', 'ns', 'ns', register.namespace, 'peer', register.peer_id, 'record', encode(register.record, 'base64')));
    RETURN 'ok';
END
$$;
COMMENT ON FUNCTION hub.register(text, text, bigint, bytea, double precision, int) IS 'Lists a peer in a namespace, or lets it stay there for longer: ok, or why not: older, same_number, quota.';

CREATE OR REPLACE FUNCTION hub.unregister(namespace text, peer_id text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM hub.registration AS r WHERE r.namespace = unregister.namespace AND r.peer_id = unregister.peer_id;
    IF found THEN
        PERFORM hub.notify('hub_all', jsonb_build_object('k', 'ns', 'ns', unregister.namespace, 'peer', unregister.peer_id, 'record', NULL));
    END IF;
END
$$;
COMMENT ON FUNCTION hub.unregister(text, text) IS 'Lists a peer in a namespace no longer.';

CREATE OR REPLACE FUNCTION hub.post(sender text, recipient text, box bytea, seconds double precision, most int, most_bytes bigint, most_of_sender int, most_sent int) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kept record;
    number bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('pgpeer/hub/mail/' || post.recipient, 0));
    SELECT count(*) AS boxes, coalesce(sum(octet_length(m.box)), 0) AS bytes, count(*) FILTER (WHERE m.sender = post.sender) AS of_sender
      INTO kept FROM hub.mail AS m WHERE m.recipient = post.recipient;
    IF kept.boxes >= post.most OR kept.bytes + octet_length(post.box) > post.most_bytes OR kept.of_sender >= post.most_of_sender
       OR (SELECT count(*) FROM hub.mail AS m WHERE m.sender = post.sender) >= post.most_sent THEN
        RETURN NULL;
    END IF;
    INSERT INTO hub.mail AS m (recipient, sender, box, expires_at)
    VALUES (post.recipient, post.sender, post.box, clock_timestamp() + make_interval(secs => post.seconds))
    RETURNING m.mail INTO number;
    PERFORM hub.notify('hub_all', jsonb_build_object('k', 'mail', 'peer', post.recipient));
    RETURN number;
END
$$;
COMMENT ON FUNCTION hub.post(text, text, bytea, double precision, int, bigint, int, int) IS 'Keeps a box for a peer and gives its number; NULL when a mailbox is full.';

CREATE OR REPLACE FUNCTION hub.sweep(process bigint) RETURNS TABLE (alive bool, mail_bytes bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    UPDATE hub.process AS p SET seen_at = clock_timestamp() WHERE p.process = sweep.process;
    alive := found;
    PERFORM hub.leave(p.process) FROM hub.process AS p WHERE p.seen_at < clock_timestamp() - interval '20 s';
    PERFORM hub.unregister(r.namespace, r.peer_id) FROM hub.registration AS r WHERE r.expires_at <= clock_timestamp();
    DELETE FROM hub.mail AS m WHERE m.expires_at <= clock_timestamp();
    DELETE FROM hub.notice AS n WHERE n.made_at < clock_timestamp() - interval '1 minute';
    mail_bytes := (SELECT coalesce(sum(octet_length(m.box) + 256), 0) FROM hub.mail AS m);
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION hub.sweep(bigint) IS 'Says that a process is alive, forgets what has expired and who died; tells whether the process was still listed, and how much mail is kept.';
