-- What people look at: conflict, problem, member.

DROP VIEW IF EXISTS peer.conflict, peer.problem, peer.member;

CREATE VIEW peer.conflict AS
SELECT x.conflict_id, b.name AS bundle, r.relation, peer_internal.key_json(x.relation_id, x.key_text) AS key, c.name AS column_name, x.kind, 'bundle'::text AS scope,
       x.base_value, x.winning_value, x.losing_value, peer_internal.commit_id(x.winning_commit) AS winning_commit, peer_internal.commit_id(x.losing_commit) AS losing_commit,
       wa.peer_id AS winning_author, la.peer_id AS losing_author, x.state, x.detected_at
  FROM peer_internal.conflict AS x
  JOIN peer_internal.bundle AS b USING (bundle_id)
  JOIN peer_internal.relation AS r USING (relation_id)
  LEFT JOIN peer_internal.relation_column AS c ON c.relation_id = x.relation_id AND c.column_id = x.column_id
  JOIN peer_internal.commit AS w ON w.digest = x.winning_commit JOIN peer_internal.author AS wa ON wa.author_id = w.author_id
  JOIN peer_internal.commit AS l ON l.digest = x.losing_commit JOIN peer_internal.author AS la ON la.author_id = l.author_id
UNION ALL
SELECT peer_internal.conflict_id(u.relation_id, u.column_id, '', u.digest, u.key_text), b.name, r.relation, peer_internal.key_json(u.relation_id, u.key_text), c.name,
       'uncommitted', 'local', NULL, NULL, w.losing_value, NULL, k.commit_id, NULL, a.peer_id, 'open', k.recorded_at
  FROM peer_internal.unseen AS u
  JOIN peer_internal.relation AS r USING (relation_id)
  JOIN peer_internal.bundle AS b USING (bundle_id)
  LEFT JOIN peer_internal.relation_column AS c ON c.relation_id = u.relation_id AND c.column_id = u.column_id
  JOIN peer_internal.commit AS k ON k.digest = u.digest JOIN peer_internal.author AS a ON a.author_id = k.author_id
  LEFT JOIN LATERAL (SELECT peer_internal.field_json(v.field, c.type) AS losing_value
                       FROM peer_internal.writes(u.relation_id, ARRAY[u.key_text], ARRAY[k.commit_no]) AS x CROSS JOIN LATERAL unnest(x.column_ids, x.fields) AS v(column_id, field)
                      WHERE v.column_id = u.column_id LIMIT 1) AS w ON true;
COMMENT ON VIEW peer.conflict IS 'Conflicts. scope ''bundle'': concurrent commits wrote different values, the same rows with the same ids on every member. scope ''local'': uncommitted work here met an incoming commit.';

CREATE VIEW peer.problem AS
SELECT p.since, p.kind, b.name AS bundle, r.relation, peer_internal.key_json(p.relation_id, p.key_text) AS key, p.detail, p.remedy
  FROM peer_internal.reported_problem AS p
  LEFT JOIN peer_internal.bundle AS b ON b.bundle_id = p.bundle_id
  LEFT JOIN peer_internal.relation AS r ON r.relation_id = p.relation_id
UNION ALL
SELECT c.held_since, c.held_kind, b.name, NULL, NULL, format('Commit %s of %s is held: %s', c.commit_id, coalesce(a.label, a.peer_id), c.held_detail),
       CASE c.held_kind WHEN 'constraint_violation' THEN 'Change the local rows that stand in its way, or the constraint; the commit is merged by itself then. Its descendants wait with it.'
                        WHEN 'schema_mismatch' THEN 'Make the local table equal to the one of the bundle; the commit is merged by itself then.'
                        WHEN 'future_commit' THEN 'Check the clocks of both servers. It is merged when its time comes.'
                        WHEN 'invalid_commit' THEN 'Its author is broken or hostile. Nothing was changed.'
                        WHEN 'not_a_writer' THEN 'An admin may give its author the right to write: SELECT peer.set_role(…). It is merged as well once a writer has built upon it.'
                        WHEN 'missing_right' THEN 'Grant the right to the role of the worker; the commit is merged by itself then.'
                        ELSE 'Read the detail; the commit is tried again by itself.' END
  FROM peer_internal.commit AS c JOIN peer_internal.bundle AS b USING (bundle_id) JOIN peer_internal.author AS a USING (author_id)
 WHERE c.state = 'held'
UNION ALL
SELECT c.recorded_at, 'missing_commit', b.name, NULL, NULL,
       format('Commit %s of %s has waited for more than an hour for a commit that it builds upon, which nobody has sent.', c.commit_id, coalesce(a.label, a.peer_id)),
       'Link with its author, or with another member that has merged it; it is merged by itself then. If nobody has that commit, its author is broken or hostile.'
  FROM peer_internal.commit AS c JOIN peer_internal.bundle AS b USING (bundle_id) JOIN peer_internal.author AS a USING (author_id)
 WHERE c.state = 'received' AND c.recorded_at < now() - interval '1 hour'
   AND EXISTS (SELECT FROM unnest(c.parents || c.previous) AS p(digest)
                WHERE p.digest IS NOT NULL AND NOT EXISTS (SELECT FROM peer_internal.commit AS d WHERE d.digest = p.digest))
UNION ALL
SELECT c.recorded_at, 'not_a_writer', b.name, NULL, NULL,
       CASE WHEN a.public_key = i.public_key THEN format('Changes made here stay here: this database is %s of the bundle, so nobody takes its commit %s.', CASE peer_internal.own_role(b.bundle_id) WHEN 'reader' THEN 'a reader' ELSE 'no member' END, c.commit_id)
            ELSE format('Commit %s of %s was merged here before its author lost the right to write. Members that had not merged it hold it back.', c.commit_id, coalesce(a.label, a.peer_id)) END,
       CASE WHEN a.public_key = i.public_key THEN 'Ask an admin for the role writer.' ELSE 'The next commit of a writer that has merged it settles this.' END
  FROM peer_internal.head AS h JOIN peer_internal.commit AS c USING (commit_no) JOIN peer_internal.bundle AS b ON b.bundle_id = h.bundle_id JOIN peer_internal.author AS a USING (author_id)
  LEFT JOIN peer_internal.identity AS i ON true
 WHERE peer_internal.is_unvouched_head(h.bundle_id, h.commit_no)
UNION ALL
SELECT min(c.recorded_at), 'equivocation', b.name, NULL, NULL, format('%s signed different commits with one number (epoch %s, after seq %s).', coalesce(a.label, a.peer_id), l.epoch, l.fork_seq),
       'Its database was restored or copied while its key stayed in use. Both branches are kept and merged. Let that peer run  pgpeer init  so that it goes on in a new epoch.'
  FROM peer_internal.lane AS l JOIN peer_internal.bundle AS b USING (bundle_id) JOIN peer_internal.author AS a USING (author_id)
  JOIN peer_internal.commit AS c ON c.bundle_id = l.bundle_id AND c.lane = l.lane
 WHERE l.fork_of IS NOT NULL OR EXISTS (SELECT FROM peer_internal.lane AS o WHERE o.bundle_id = l.bundle_id AND o.author_id = l.author_id AND o.epoch = l.epoch AND o.fork_seq = 0 AND o.lane < l.lane AND l.fork_seq = 0)
 GROUP BY b.name, a.label, a.peer_id, l.epoch, l.fork_seq
UNION ALL
SELECT now(), g.kind, g.bundle, g.relation, NULL, g.detail, g.remedy FROM peer_internal.capture_gaps() AS g
UNION ALL
SELECT now(), 'copied_database', NULL, NULL, NULL, 'This database is a copy of another one and carries its identity.',
       'If the original is gone or stays off: pgpeer init --dsn … (same identity, new epoch). If both shall live: pgpeer init --dsn … --identity NEWFILE.'
 WHERE peer_internal.is_copy();
COMMENT ON VIEW peer.problem IS 'Everything that needs a person, with its remedy. Empty when all is well.';

CREATE VIEW peer.member AS
SELECT b.name AS bundle, a.peer_id, m.role, m.state, m.acknowledged, m.last_seen, a.label
  FROM peer_internal.member AS m JOIN peer_internal.bundle AS b USING (bundle_id) JOIN peer_internal.author AS a USING (author_id);
COMMENT ON VIEW peer.member IS 'Who exchanges which bundle with this database, and what each has acknowledged as merged durably.';
