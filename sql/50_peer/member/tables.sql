-- Who may do what: grants and the roster they make, friends, introductions, and where peers were reached. Runs once.

CREATE TABLE peer_internal.roster (
    bundle_id uuid NOT NULL,
    creator bytea NOT NULL,
    grant_count bigint NOT NULL DEFAULT 0,
    read_count bigint NOT NULL DEFAULT 0,
    fence bytea[] NOT NULL DEFAULT '{}',
    is_enforced boolean NOT NULL DEFAULT false,
    read_at timestamptz,
    CONSTRAINT roster_pkey PRIMARY KEY (bundle_id),
    CONSTRAINT roster_bundle_id_fkey FOREIGN KEY (bundle_id) REFERENCES peer_internal.bundle (bundle_id) ON DELETE CASCADE,
    CONSTRAINT roster_creator_check CHECK (pg_catalog.octet_length(creator) = 32)
);
COMMENT ON TABLE peer_internal.roster IS 'The root of trust of a bundle, and how far its grants were read into peer_internal.member.';
COMMENT ON COLUMN peer_internal.roster.creator IS 'The public key that made the bundle: its first admin.';
COMMENT ON COLUMN peer_internal.roster.grant_count IS 'How many grants are known: grows with each, so that the worker sees that there is something to read or to tell.';
COMMENT ON COLUMN peer_internal.roster.read_count IS 'How many of them peer_internal.member reflects.';
COMMENT ON COLUMN peer_internal.roster.fence IS 'Commits that admins vouched for when their author lost the right to write.';
COMMENT ON COLUMN peer_internal.roster.is_enforced IS 'Whether grants decide who is a member: from the first one on.';

CREATE TABLE peer_internal.bundle_grant (
    bundle_id uuid NOT NULL,
    digest bytea NOT NULL,
    record bytea NOT NULL,
    issuer text NOT NULL,
    seq bigint NOT NULL,
    told_by text,
    counts boolean NOT NULL DEFAULT false,
    received_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT bundle_grant_pkey PRIMARY KEY (bundle_id, digest),
    CONSTRAINT bundle_grant_bundle_id_fkey FOREIGN KEY (bundle_id) REFERENCES peer_internal.bundle (bundle_id) ON DELETE CASCADE
);
COMMENT ON TABLE peer_internal.bundle_grant IS 'Signed grants: who says that whom has which role. Only ever added to; the worker verifies them.';
COMMENT ON COLUMN peer_internal.bundle_grant.record IS 'Signature (64 bytes) and the JSON text that it signs.';
COMMENT ON COLUMN peer_internal.bundle_grant.told_by IS 'The peer that it came from; NULL: signed here.';

CREATE TABLE peer_internal.grant_request (
    request_id bigint GENERATED ALWAYS AS IDENTITY,
    bundle_id uuid NOT NULL,
    subject bytea NOT NULL,
    role text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT grant_request_pkey PRIMARY KEY (request_id),
    CONSTRAINT grant_request_bundle_id_fkey FOREIGN KEY (bundle_id) REFERENCES peer_internal.bundle (bundle_id) ON DELETE CASCADE,
    CONSTRAINT grant_request_role_check CHECK (role IN ('removed', 'reader', 'writer', 'admin'))
);
COMMENT ON TABLE peer_internal.grant_request IS 'Roles that were set here and wait for the worker, which holds the key, to sign them.';

CREATE TABLE peer.friend (
    peer_id text NOT NULL,
    label text,
    state text NOT NULL DEFAULT 'requested',
    stun_server_id int,
    added_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    is_incoming boolean NOT NULL DEFAULT false,
    note text,
    CONSTRAINT friend_pkey PRIMARY KEY (peer_id),
    CONSTRAINT friend_stun_server_id_fkey FOREIGN KEY (stun_server_id) REFERENCES peer.stun_server (id) ON DELETE SET NULL,
    CONSTRAINT friend_state_check CHECK (state IN ('requested', 'accepted', 'blocked')),
    CONSTRAINT friend_peer_id_check CHECK (peer_id ~ '^pg1[a-z2-7]{54}$'),
    CONSTRAINT friend_label_check CHECK (pg_catalog.length(label) <= 200),
    CONSTRAINT friend_note_check CHECK (pg_catalog.length(note) <= 500)
);
COMMENT ON TABLE peer.friend IS 'Peers that this database knows by choice. Edit label and stun_server_id freely; the rest by peer.befriend, accept, block and unfriend.';
COMMENT ON COLUMN peer.friend.label IS 'What people here call the peer.';
COMMENT ON COLUMN peer.friend.state IS 'requested: one side has asked (is_incoming: the other one); accepted: both agree; blocked: it may never connect.';
COMMENT ON COLUMN peer.friend.stun_server_id IS 'The STUN or TURN server for links with this peer; NULL: that of peer.config.';

CREATE TABLE peer_internal.former_friend (
    peer_id text NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT former_friend_pkey PRIMARY KEY (peer_id)
);
COMMENT ON TABLE peer_internal.former_friend IS 'Who was removed here: introductions of it are ignored until people here befriend it again.';

CREATE TABLE peer_internal.introduction (
    peer_id text NOT NULL,
    introduced_by text NOT NULL,
    seq bigint NOT NULL,
    label text,
    note text,
    record bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT introduction_pkey PRIMARY KEY (peer_id, introduced_by)
);
COMMENT ON TABLE peer_internal.introduction IS 'Friends of friends, as friends suggested them. Nothing follows from a suggestion until people here befriend the peer.';

CREATE TABLE peer_internal.friend_notice (
    notice_id bigint GENERATED ALWAYS AS IDENTITY,
    peer_id text NOT NULL,
    kind text NOT NULL,
    subject text,
    note text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT friend_notice_pkey PRIMARY KEY (notice_id),
    CONSTRAINT friend_notice_kind_check CHECK (kind IN ('request', 'accept', 'end', 'introduce'))
);
COMMENT ON TABLE peer_internal.friend_notice IS 'What the worker shall tell a peer, signed, when it reaches it. The notice_id is the number of the signed record.';

CREATE TABLE peer_internal.friend_heard (
    peer_id text NOT NULL,
    seq bigint NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT friend_heard_pkey PRIMARY KEY (peer_id)
);
COMMENT ON TABLE peer_internal.friend_heard IS 'The number of the last notice of each peer: an older one that comes again changes nothing.';

CREATE TABLE peer_internal.owner (
    one_row boolean NOT NULL DEFAULT true,
    owner text NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT owner_pkey PRIMARY KEY (one_row),
    CONSTRAINT owner_one_row_check CHECK (one_row),
    CONSTRAINT owner_owner_check CHECK (owner ~ '^pg1[a-z2-7]{54}$')
);
COMMENT ON TABLE peer_internal.owner IS 'Whose device this database is: the id of a key that is kept offline. No row: nobody''s.';

CREATE TABLE peer_internal.device (
    owner text NOT NULL,
    peer_id text NOT NULL,
    seq bigint NOT NULL,
    record bytea NOT NULL,
    label text NOT NULL,
    is_revoked boolean NOT NULL,
    told_by text,
    received_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT device_pkey PRIMARY KEY (owner, peer_id)
);
COMMENT ON TABLE peer_internal.device IS 'The last word of an owner about each of its devices, this database among them: a certificate or a revocation. Their numbers only grow.';
COMMENT ON COLUMN peer_internal.device.record IS 'Signature (64 bytes) and the JSON text that it signs; verified before it came here.';
COMMENT ON COLUMN peer_internal.device.told_by IS 'The peer that it came from; NULL: signed here.';

CREATE TABLE peer_internal.peer_record (
    peer_id text NOT NULL,
    seq bigint NOT NULL,
    record bytea NOT NULL,
    told_by text,
    received_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT peer_record_pkey PRIMARY KEY (peer_id)
);
COMMENT ON TABLE peer_internal.peer_record IS 'What each peer last said of itself: its addresses and hubs, signed, so that anybody can pass it on. Its number only grows.';

CREATE TABLE peer_internal.peer_address (
    peer_id text NOT NULL,
    address text NOT NULL,
    source text NOT NULL,
    told_by text,
    seq bigint,
    added_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_success timestamptz,
    last_failure timestamptz,
    failures int NOT NULL DEFAULT 0,
    CONSTRAINT peer_address_pkey PRIMARY KEY (peer_id, address),
    CONSTRAINT peer_address_source_check CHECK (source IN ('static', 'record', 'seen', 'invite', 'hub')),
    CONSTRAINT peer_address_address_check CHECK (address ~ '^(tls|ws|wss)://[^[:space:]]+$' AND pg_catalog.length(address) <= 2048)
);
COMMENT ON TABLE peer_internal.peer_address IS 'Where peers can be or could be reached, who said so, and how trying went.';
COMMENT ON COLUMN peer_internal.peer_address.source IS 'static: entered by people here; record: the peer''s own signed word; seen: a link came from there; invite; hub.';

ALTER TABLE peer.config
    ADD COLUMN listen_address text,
    ADD COLUMN public_address text,
    ADD CONSTRAINT config_listen_address_check CHECK (listen_address ~ '^(\[[0-9A-Fa-f:.]+\]|[^]/@:[[:space:]]+):[0-9]{1,5}$' AND pg_catalog.length(listen_address) <= 262 AND pg_catalog.substring(listen_address, '[0-9]+$')::int <= 65535),
    ADD CONSTRAINT config_public_address_check CHECK (public_address ~ '^(\[[0-9A-Fa-f:.]+\]|[^]/@:[[:space:]]+):[0-9]{1,5}$' AND pg_catalog.length(public_address) <= 262 AND pg_catalog.substring(public_address, '[0-9]+$')::int BETWEEN 1 AND 65535);
COMMENT ON COLUMN peer.config.listen_address IS 'host:port at which the worker takes direct TLS connections of peers, for example 0.0.0.0:7432 or [::]:7432; port 0 picks a free one. NULL: it does not listen.';
COMMENT ON COLUMN peer.config.public_address IS 'host:port that other peers are told instead of the addresses listened at, for example that of a port forwarding.';
