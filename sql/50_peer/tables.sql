-- Other peers: members, invites, join requests, connections, events and problems. Runs once.

CREATE TABLE peer_internal.member (
    bundle_id uuid NOT NULL,
    author_id int NOT NULL,
    role text NOT NULL,
    state text NOT NULL DEFAULT 'active',
    last_seen timestamptz,
    acknowledged jsonb,
    CONSTRAINT member_pkey PRIMARY KEY (bundle_id, author_id),
    CONSTRAINT member_bundle_id_fkey FOREIGN KEY (bundle_id) REFERENCES peer_internal.bundle (bundle_id) ON DELETE CASCADE,
    CONSTRAINT member_author_id_fkey FOREIGN KEY (author_id) REFERENCES peer_internal.author (author_id),
    CONSTRAINT member_role_check CHECK (role IN ('reader', 'writer', 'admin')),
    CONSTRAINT member_state_check CHECK (state IN ('active', 'removed'))
);
COMMENT ON TABLE peer_internal.member IS 'Who may exchange a bundle with this database.';
COMMENT ON COLUMN peer_internal.member.acknowledged IS 'The version vector that the peer last acknowledged: [{"author": hex, "epoch": n, "seq": n}].';

CREATE TABLE peer_internal.invite (
    invite_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    bundle_id uuid NOT NULL,
    secret_hash bytea NOT NULL,
    role text NOT NULL,
    uses_left int NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT invite_pkey PRIMARY KEY (invite_id),
    CONSTRAINT invite_bundle_id_fkey FOREIGN KEY (bundle_id) REFERENCES peer_internal.bundle (bundle_id) ON DELETE CASCADE,
    CONSTRAINT invite_role_check CHECK (role IN ('reader', 'writer', 'admin')),
    CONSTRAINT invite_uses_left_check CHECK (uses_left >= 0)
);
COMMENT ON TABLE peer_internal.invite IS 'Open invites. Only a hash of the secret is kept.';

CREATE TABLE peer_internal.join_request (
    request_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    invite_id uuid NOT NULL,
    bundle_id uuid NOT NULL,
    bundle_name text NOT NULL,
    inviter_key bytea NOT NULL,
    secret text,
    hubs text[] NOT NULL,
    expires_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'requested',
    goal jsonb,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT join_request_pkey PRIMARY KEY (request_id),
    CONSTRAINT join_request_state_check CHECK (state IN ('requested', 'accepted', 'joined', 'failed'))
);
COMMENT ON TABLE peer_internal.join_request IS 'Invites that this database follows; the worker does the work. The secret is forgotten when it was used.';
COMMENT ON COLUMN peer_internal.join_request.goal IS 'The inviter''s version vector when it accepted: joined once all of it is merged here.';

CREATE TABLE peer.event (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    kind text NOT NULL,
    peer_id text,
    bundle text,
    connection_id uuid,
    phase text,
    code text,
    retryable boolean,
    detail text,
    hint text,
    CONSTRAINT event_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE peer.event IS 'What happened between peers, newest last. Each row is also announced by NOTIFY peer_event with its id.';

CREATE TABLE peer_internal.reported_problem (
    kind text NOT NULL,
    subject text NOT NULL,
    since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    bundle_id uuid,
    relation_id uuid,
    key_text text,
    detail text NOT NULL,
    remedy text NOT NULL,
    CONSTRAINT reported_problem_pkey PRIMARY KEY (kind, subject),
    CONSTRAINT reported_problem_bundle_id_fkey FOREIGN KEY (bundle_id) REFERENCES peer_internal.bundle (bundle_id) ON DELETE CASCADE
);
COMMENT ON TABLE peer_internal.reported_problem IS 'Problems that the worker sees; it removes them when they are over.';

CREATE UNLOGGED TABLE peer_internal.connection (
    connection_id uuid NOT NULL,
    author_id int NOT NULL,
    direction text NOT NULL,
    path text NOT NULL,
    engine text NOT NULL,
    state text NOT NULL,
    local_candidate text,
    remote_candidate text,
    rtt interval,
    bytes_sent bigint NOT NULL DEFAULT 0,
    bytes_received bigint NOT NULL DEFAULT 0,
    bytes_sent_per_second bigint NOT NULL DEFAULT 0,
    bytes_received_per_second bigint NOT NULL DEFAULT 0,
    since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT connection_pkey PRIMARY KEY (connection_id)
);
COMMENT ON TABLE peer_internal.connection IS 'The links of the running worker. Rebuilt by it; lost in a crash.';
COMMENT ON COLUMN peer_internal.connection.bytes_sent_per_second IS 'Over the seconds before the worker last looked, at most some ten; without what paths and encryption add.';
