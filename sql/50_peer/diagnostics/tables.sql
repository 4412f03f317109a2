-- What the running worker says about itself. Runs once.

CREATE UNLOGGED TABLE peer_internal.diagnostics (
    one_row boolean NOT NULL DEFAULT true,
    reported_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    report jsonb NOT NULL,
    CONSTRAINT diagnostics_pkey PRIMARY KEY (one_row),
    CONSTRAINT diagnostics_one_row_check CHECK (one_row)
);
COMMENT ON TABLE peer_internal.diagnostics IS 'The last report of the running worker about its own process; lost in a crash.';
