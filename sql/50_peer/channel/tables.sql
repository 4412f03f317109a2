-- Application connections to other peers, their messages, and who is online. Runs once.

ALTER TABLE peer.config
    ADD COLUMN connections_per_peer_max bigint NOT NULL DEFAULT 32,
    ADD COLUMN message_bytes_max bigint NOT NULL DEFAULT 262144,
    ADD COLUMN message_queue_count_max bigint NOT NULL DEFAULT 10000,
    ADD COLUMN message_queue_bytes_max bigint NOT NULL DEFAULT 16777216,
    ADD COLUMN message_inbox_count_max bigint NOT NULL DEFAULT 100000,
    ADD COLUMN message_inbox_bytes_max bigint NOT NULL DEFAULT 67108864,
    ADD COLUMN connection_slow_timeout interval NOT NULL DEFAULT '3 seconds',
    ADD COLUMN connection_timeout interval NOT NULL DEFAULT '30 seconds',
    ADD COLUMN connection_stall_timeout interval NOT NULL DEFAULT '3 minutes',
    ADD CONSTRAINT config_connections_per_peer_max_check CHECK (connections_per_peer_max BETWEEN 0 AND 32),
    ADD CONSTRAINT config_message_bytes_max_check CHECK (message_bytes_max BETWEEN 1 AND 262144),
    ADD CONSTRAINT config_message_queue_count_max_check CHECK (message_queue_count_max BETWEEN 1 AND 1000000),
    ADD CONSTRAINT config_message_queue_bytes_max_check CHECK (message_queue_bytes_max BETWEEN 262144 AND 1073741824),
    ADD CONSTRAINT config_message_inbox_count_max_check CHECK (message_inbox_count_max BETWEEN 1 AND 10000000),
    ADD CONSTRAINT config_message_inbox_bytes_max_check CHECK (message_inbox_bytes_max BETWEEN 1048576 AND 10737418240),
    ADD CONSTRAINT config_connection_slow_timeout_check CHECK (connection_slow_timeout >= '0.1 seconds'),
    ADD CONSTRAINT config_connection_timeout_check CHECK (connection_timeout BETWEEN connection_slow_timeout AND '1 day'),
    ADD CONSTRAINT config_connection_stall_timeout_check CHECK (connection_stall_timeout BETWEEN connection_slow_timeout AND '1 day');

ALTER TABLE peer.event ADD COLUMN reason text;
COMMENT ON COLUMN peer.event.reason IS 'Of connection-closed: ''peer-requested-closed'' when one side disconnected, else ''connection-error''.';

CREATE TABLE peer_internal.channel (
    connection_id uuid NOT NULL,
    author_id int NOT NULL,
    direction text NOT NULL,
    confirm_data_receival boolean NOT NULL,
    state text NOT NULL DEFAULT 'connecting',
    acknowledged bigint NOT NULL DEFAULT 0,
    acknowledged_bytes bigint NOT NULL DEFAULT 0,
    acknowledged_chain bytea,
    received bigint NOT NULL DEFAULT 0,
    received_bytes bigint NOT NULL DEFAULT 0,
    received_chain bytea,
    reason text,
    code text,
    detail text,
    since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    closed_at timestamptz,
    CONSTRAINT channel_pkey PRIMARY KEY (connection_id),
    CONSTRAINT channel_author_id_fkey FOREIGN KEY (author_id) REFERENCES peer_internal.author (author_id),
    CONSTRAINT channel_direction_check CHECK (direction IN ('outgoing', 'incoming')),
    CONSTRAINT channel_state_check CHECK (state IN ('connecting', 'open', 'closing', 'closed')),
    CONSTRAINT channel_reason_check CHECK (reason IN ('peer-requested-closed', 'connection-error'))
);
CREATE INDEX channel_author_id_idx ON peer_internal.channel (author_id) WHERE state <> 'closed';
COMMENT ON TABLE peer_internal.channel IS 'Application connections. Only the worker changes a row, so that it never waits for a user''s transaction.';
COMMENT ON COLUMN peer_internal.channel.acknowledged IS 'The number of the last message that the other side has stored; the later ones are in peer_internal.outgoing_message.';
COMMENT ON COLUMN peer_internal.channel.received IS 'The number of the last message that was put into peer.message.';
COMMENT ON COLUMN peer_internal.channel.received_chain IS 'Hash over all messages received so far: tells a peer that was restored from a backup from one that goes on.';

CREATE TABLE peer_internal.channel_sender (
    connection_id uuid NOT NULL,
    last_number bigint NOT NULL DEFAULT 0,
    last_bytes bigint NOT NULL DEFAULT 0,
    CONSTRAINT channel_sender_pkey PRIMARY KEY (connection_id)
);
COMMENT ON TABLE peer_internal.channel_sender IS 'The number and the sum of the bytes of the last message given to each connection. Locked by who sends, so that numbers come in the order of commits.';

CREATE TABLE peer_internal.channel_farewell (
    connection_id uuid NOT NULL,
    CONSTRAINT channel_farewell_pkey PRIMARY KEY (connection_id)
);
COMMENT ON TABLE peer_internal.channel_farewell IS 'Connections that the user ends.';

CREATE TABLE peer_internal.outgoing_message (
    connection_id uuid NOT NULL,
    number bigint NOT NULL,
    total_bytes bigint NOT NULL,
    data text NOT NULL,
    CONSTRAINT outgoing_message_pkey PRIMARY KEY (connection_id, number)
);
COMMENT ON TABLE peer_internal.outgoing_message IS 'Messages until the other side has acknowledged them.';
COMMENT ON COLUMN peer_internal.outgoing_message.total_bytes IS 'Bytes of all messages of the connection up to this one.';

CREATE TABLE peer.message (
    connection_id uuid NOT NULL,
    peer_id text NOT NULL,
    number bigint NOT NULL,
    data text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT message_pkey PRIMARY KEY (connection_id, number)
);
COMMENT ON TABLE peer.message IS 'The inbox of application connections: each message once, numbered from 1 in the order of sending. Delete what is read; a full inbox stops the sender.';

CREATE UNLOGGED TABLE peer_internal.presence (
    peer_id text NOT NULL,
    since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT presence_pkey PRIMARY KEY (peer_id)
);
COMMENT ON TABLE peer_internal.presence IS 'Peers that a hub says are online. Kept by the running worker.';
