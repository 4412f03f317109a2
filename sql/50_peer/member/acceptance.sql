-- Which commits are taken: those of writers, and what writers have built upon. The same on all members with the same commits
-- and grants.

CREATE OR REPLACE FUNCTION peer_internal.is_enforced(bundle_id uuid) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM peer_internal.roster AS r WHERE r.bundle_id = is_enforced.bundle_id AND r.is_enforced)
$$;
COMMENT ON FUNCTION peer_internal.is_enforced(uuid) IS 'Whether grants decide whose commits of a bundle are taken.';

CREATE OR REPLACE FUNCTION peer_internal.may_write(bundle_id uuid, author_id int) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM peer_internal.member AS m
                    WHERE m.bundle_id = may_write.bundle_id AND m.author_id = may_write.author_id AND m.state = 'active' AND m.role IN ('writer', 'admin'))
$$;
COMMENT ON FUNCTION peer_internal.may_write(uuid, int) IS 'Whether an author is a writer or admin of a bundle now.';

CREATE OR REPLACE FUNCTION peer_internal.vouched_commits(bundle_id uuid) RETURNS bytea[]
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- by author, not by commit: thousands may wait
    IF NOT EXISTS (SELECT FROM (SELECT DISTINCT c.author_id FROM peer_internal.commit AS c
                                 WHERE c.bundle_id = vouched_commits.bundle_id AND c.state IN ('received', 'held')) AS w
                    WHERE NOT peer_internal.may_write(vouched_commits.bundle_id, w.author_id)) THEN
        RETURN '{}';
    END IF;
    -- what is merged needs no voucher, and whoever built upon something that is not merged is not merged either
    RETURN (
        WITH RECURSIVE taken(digest, parents) AS (
            SELECT c.digest, c.parents FROM peer_internal.commit AS c
             WHERE c.bundle_id = vouched_commits.bundle_id AND c.state IN ('received', 'held')
               AND (peer_internal.may_write(c.bundle_id, c.author_id)
                    OR c.digest = ANY ((SELECT r.fence FROM peer_internal.roster AS r WHERE r.bundle_id = vouched_commits.bundle_id)::bytea[]))
            UNION
            SELECT c.digest, c.parents
              FROM taken AS t CROSS JOIN LATERAL unnest(t.parents) AS p(digest) JOIN peer_internal.commit AS c ON c.digest = p.digest
             WHERE c.bundle_id = vouched_commits.bundle_id AND c.state IN ('received', 'held'))
        SELECT coalesce(array_agg(t.digest), '{}') FROM taken AS t);
END
$$;
COMMENT ON FUNCTION peer_internal.vouched_commits(uuid) IS
    'The commits of a bundle that wait here and may be taken: those of present writers, those of fences, and all their ancestors. Empty when everything that waits is by writers.';

CREATE OR REPLACE FUNCTION peer_internal.retry_vouched(bundle_id uuid) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE peer_internal.commit AS c SET retry_at = clock_timestamp()
     WHERE c.bundle_id = retry_vouched.bundle_id AND c.state = 'held' AND c.held_kind = 'not_a_writer' AND c.retry_at > clock_timestamp()
       AND (NOT peer_internal.is_enforced(c.bundle_id) OR peer_internal.may_write(c.bundle_id, c.author_id)
            OR c.digest = ANY (peer_internal.vouched_commits(retry_vouched.bundle_id)))
$$;
COMMENT ON FUNCTION peer_internal.retry_vouched(uuid) IS 'Commits that were held because their author may not write are tried again when that has changed.';

CREATE OR REPLACE FUNCTION peer_internal.refusal_of(c peer_internal.commit, vouched bytea[]) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN peer_internal.may_write(c.bundle_id, c.author_id) OR c.digest = ANY (vouched) THEN NULL
                ELSE format('Its author %s may not write this bundle%s.', a.peer_id,
                            CASE WHEN m.state = 'removed' THEN ' any more' WHEN m.role = 'reader' THEN ', only read it' ELSE ': nobody has admitted it' END) END
      FROM peer_internal.author AS a LEFT JOIN peer_internal.member AS m ON m.bundle_id = c.bundle_id AND m.author_id = a.author_id
     WHERE a.author_id = c.author_id
$$;
COMMENT ON FUNCTION peer_internal.refusal_of(peer_internal.commit, bytea[]) IS 'Why a commit is not taken, given what peer_internal.vouched_commits said; NULL when it is.';
