-- Which domain a record is about, for those who look after one domain: that of the thing,
-- else that of who did it. '' = of none, or from before this was kept: for superadmins only.
ALTER TABLE audit ADD COLUMN domain TEXT NOT NULL DEFAULT '';
CREATE INDEX audit_domain ON audit (domain, seq) WHERE domain <> '';
