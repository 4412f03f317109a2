-- Commits that were made but not signed when the key or the epoch changed are authored again (merge rules 14 and 15).

CREATE OR REPLACE FUNCTION peer_internal.reauthor(bundle_id uuid, old_key bytea, old_epoch bigint, latest_hlc bigint DEFAULT 9223372036854775807) RETURNS int
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me record;
    c peer_internal.commit;
    new_lane int;
    last_seq bigint := 0;
    last_digest bytea;
    new_parents bytea[];
    new_header bytea;
    made_digest bytea;
    own_previous bytea;
    new_hlc bigint;
    done bigint[] := '{}';
    part record;
BEGIN
    PERFORM peer_internal.enter_bundle(reauthor.bundle_id);
    SELECT i.public_key, i.epoch, peer_internal.author_id(i.public_key) AS author_id INTO STRICT me FROM peer_internal.identity AS i;
    FOR c IN
        SELECT x.* FROM peer_internal.commit AS x JOIN peer_internal.author AS a USING (author_id)
         WHERE x.bundle_id = reauthor.bundle_id AND x.signature IS NULL AND x.state = 'merged' AND a.public_key = old_key AND x.epoch = old_epoch
         ORDER BY x.position
    LOOP
        IF new_lane IS NULL THEN
            new_lane := peer_internal.own_lane(reauthor.bundle_id);
            SELECT x.seq, x.digest INTO last_seq, last_digest FROM peer_internal.commit AS x
             WHERE x.bundle_id = reauthor.bundle_id AND x.lane = new_lane AND x.state = 'merged' AND x.signature IS NOT NULL ORDER BY x.seq DESC LIMIT 1;
        END IF;
        -- nobody but this database has seen the commit, so it is changed in place: its old id stays as an alias
        SELECT coalesce(array_agg(coalesce(a.new_digest, p.digest) ORDER BY coalesce(a.new_digest, p.digest)), '{}') INTO new_parents
          FROM unnest(c.parents) AS p(digest) LEFT JOIN peer_internal.commit_alias AS a ON a.old_digest = p.digest;
        new_hlc := least(c.hlc, greatest(reauthor.latest_hlc, (SELECT max(p.hlc) + 1 FROM peer_internal.commit AS p WHERE p.digest = ANY (new_parents))));
        new_header := peer_internal.encode_header(c.bundle_id, me.public_key, me.epoch, coalesce(last_seq, 0) + 1, last_digest, new_parents, new_hlc,
                                                  c.schema_fingerprint, c.message, peer_internal.encoded_sections(c.commit_no));
        made_digest := sha256(new_header);
        own_previous := last_digest;
        last_seq := coalesce(last_seq, 0) + 1;
        last_digest := made_digest;
        CONTINUE WHEN made_digest = c.digest;
        UPDATE peer_internal.commit_alias AS a SET new_digest = made_digest WHERE a.new_digest = c.digest;
        INSERT INTO peer_internal.commit_alias (old_digest, new_digest) VALUES (c.digest, made_digest);
        DELETE FROM peer_internal.conflict AS x WHERE c.digest IN (x.lesser_commit, x.greater_commit);
        UPDATE peer_internal.commit AS x
           SET digest = made_digest, commit_id = peer_internal.commit_id(made_digest), author_id = me.author_id, epoch = me.epoch, seq = last_seq,
               previous = own_previous, parents = new_parents, hlc = new_hlc, header = new_header, rank = peer_internal.rank(new_hlc, me.public_key, made_digest), lane = new_lane,
               ancestry = peer_internal.with_lane(peer_internal.merged_ancestry(ARRAY(SELECT p.commit_no FROM peer_internal.commit AS p WHERE p.digest = ANY (new_parents))),
                                                  new_lane, last_seq)
         WHERE x.commit_no = c.commit_no;
        done := done || c.commit_no;
    END LOOP;
    -- their place in the order has changed: rows and conflicts where they meet others are computed again
    FOR part IN
        SELECT x.commit_no, s.relation_id, peer_internal.rivals(x.commit_no) AS rivals
          FROM unnest(done) AS x(commit_no) JOIN peer_internal.section AS s ON s.commit_no = x.commit_no AND s.op <> 'SCHEMA'
         GROUP BY x.commit_no, s.relation_id
    LOOP
        PERFORM peer_internal.settle_again(part.commit_no, part.relation_id, part.rivals);
    END LOOP;
    RETURN cardinality(done);
END
$$;
COMMENT ON FUNCTION peer_internal.reauthor(uuid, bytea, bigint, bigint) IS 'Authors the unsigned commits of an old key and epoch again under the present ones, none dated later than latest_hlc unless a parent is. Returns how many have changed.';

CREATE OR REPLACE FUNCTION peer_internal.worker_redate(bundle_id uuid) RETURNS int
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    done int;
BEGIN
    SELECT peer_internal.reauthor(worker_redate.bundle_id, i.public_key, i.epoch, peer_internal.unix_milliseconds(clock_timestamp()) << 16) INTO STRICT done
      FROM peer_internal.identity AS i;
    -- the clock of the bundle goes back as well, to what others may have seen: all that it ran ahead with is unsigned
    UPDATE peer_internal.bundle AS b
       SET last_hlc = coalesce((SELECT max(c.hlc) FROM peer_internal.commit AS c WHERE c.bundle_id = b.bundle_id AND c.state = 'merged'), 0)
     WHERE b.bundle_id = worker_redate.bundle_id;
    RETURN done;
END
$$;
COMMENT ON FUNCTION peer_internal.worker_redate(uuid) IS 'Dates the unsigned commits of a bundle anew after the clock of this server ran ahead and was corrected (merge rule 2). Returns how many have changed.';

CREATE OR REPLACE FUNCTION peer_internal.settle_again(commit_no bigint, relation_id uuid, rivals bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET session_replication_role = replica
AS $$
DECLARE
    keys text[] := peer_internal.contested_keys(settle_again.commit_no, settle_again.relation_id, settle_again.rivals);
BEGIN
    IF keys <> '{}' THEN
        PERFORM peer_internal.place_rows(settle_again.relation_id, keys, peer_internal.lock_rows(settle_again.relation_id, keys, 'delete'));
        PERFORM peer_internal.find_conflicts(settle_again.commit_no, settle_again.relation_id, keys, settle_again.rivals);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.settle_again(bigint, uuid, bigint[]) IS 'Computes rows and conflicts again where a merged commit meets commits that it has not seen.';
