-- Sums over a stretch of time, a project or a domain read what they are about and no more. A row
-- that is still held ends after every instant.
DROP INDEX usage_by_end;
CREATE INDEX usage_by_until ON usage (coalesce(to_at, 9223372036854775807));
CREATE INDEX usage_by_project ON usage (project);
CREATE INDEX usage_by_domain ON usage (domain);
