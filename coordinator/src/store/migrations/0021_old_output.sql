-- Sessions that are over and whose last output is still kept, by their age. A session is a large
-- text: without this each would be read once a day.
CREATE INDEX sessions_with_output ON sessions (ended_at, id DESC)
  WHERE settled = 1 AND json_extract(body, '$.tail') IS NOT NULL;
