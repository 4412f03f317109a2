-- How long events are kept, and how often something went wrong. Runs once.

ALTER TABLE peer.config
    ADD COLUMN event_retention interval NOT NULL DEFAULT '30 days',
    ADD COLUMN event_count_max bigint NOT NULL DEFAULT 100000,
    ADD CONSTRAINT config_event_retention_check CHECK (event_retention BETWEEN '1 hour' AND '100 years'),
    ADD CONSTRAINT config_event_count_max_check CHECK (event_count_max BETWEEN 1000 AND 100000000);
COMMENT ON COLUMN peer.config.event_retention IS 'Rows of peer.event about links, connections and failures are forgotten at this age; those about members, roles, friends and joins are not.';
COMMENT ON COLUMN peer.config.event_count_max IS 'So many of the newest rows of peer.event are kept, and besides them so many of the newest about members, roles, friends and joins.';

CREATE TABLE peer_internal.failure (
    kind text NOT NULL,
    peer_id text NOT NULL,
    phase text NOT NULL,
    code text NOT NULL,
    count bigint NOT NULL,
    first_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT failure_pkey PRIMARY KEY (kind, peer_id, phase, code),
    CONSTRAINT failure_count_check CHECK (count > 0)
);
COMMENT ON TABLE peer_internal.failure IS 'How often something went wrong, also when it was not written to peer.event because it came too often. All strangers are one peer without a name.';
