-- What grew old is found by its age, and a session that goes is looked for among requests that
-- may be repeated.
CREATE INDEX sessions_by_end ON sessions (ended_at, id DESC) WHERE settled = 1;
CREATE INDEX idempotency_of ON idempotency (session);
