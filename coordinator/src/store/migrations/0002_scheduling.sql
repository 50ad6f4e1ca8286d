-- Who may use how much, and how it is given out: settings of the scheduler, domains and
-- projects, policies, presets, pools and queues, tries that were counted.

-- A group that is gone keeps its row, since past sessions and agents name it; its name
-- becomes its id, so that another group can have it.
ALTER TABLE resource_groups ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0; -- 1 = gone

-- Groups had no version; how often a failed start is tried again came from the settings
-- and does so again.
UPDATE resource_groups
  SET body = json_set(json_remove(body, '$.creation_retries'), '$.version', 1);

CREATE TABLE scheduler (
  id   INTEGER PRIMARY KEY CHECK (id = 1),         -- one row
  body TEXT NOT NULL                               -- what groups do that do not say, as JSON
) STRICT;

CREATE TABLE domains (
  id   TEXT PRIMARY KEY NOT NULL,                  -- dom_…
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,        -- never changes
  body TEXT NOT NULL                               -- the domain as JSON
) STRICT;

CREATE TABLE projects (
  id     TEXT PRIMARY KEY NOT NULL,                -- prj_…
  domain TEXT NOT NULL REFERENCES domains (id),    -- where it belongs
  name   TEXT NOT NULL COLLATE NOCASE,             -- never changes; unique in its domain
  body   TEXT NOT NULL,                            -- the project as JSON
  UNIQUE (domain, name)
) STRICT;

CREATE TABLE keypair_policies (
  name TEXT PRIMARY KEY NOT NULL COLLATE NOCASE,   -- never changes
  id   TEXT NOT NULL UNIQUE,                       -- pol_…
  body TEXT NOT NULL                               -- the policy as JSON
) STRICT;

CREATE TABLE user_policies (
  name TEXT PRIMARY KEY NOT NULL COLLATE NOCASE,   -- never changes
  id   TEXT NOT NULL UNIQUE,                       -- pol_…
  body TEXT NOT NULL                               -- the policy as JSON
) STRICT;

CREATE TABLE project_policies (
  name TEXT PRIMARY KEY NOT NULL COLLATE NOCASE,   -- never changes
  id   TEXT NOT NULL UNIQUE,                       -- pol_…
  body TEXT NOT NULL                               -- the policy as JSON
) STRICT;

CREATE TABLE presets (
  id   TEXT PRIMARY KEY NOT NULL,                  -- pre_…
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,        -- never changes
  body TEXT NOT NULL                               -- the preset as JSON
) STRICT;

-- Pools, profiles, allocation policies and queues: each version that was provisioned; the
-- newest is the live one.
CREATE TABLE resource_config (
  version        INTEGER PRIMARY KEY,              -- 0 = nothing was provisioned yet
  provisioned_at INTEGER,                          -- when
  by             TEXT NOT NULL,                    -- by whom
  enabled        INTEGER NOT NULL,                 -- 1 = queues were served, last while it was live
  body           TEXT NOT NULL                     -- the document with its version as JSON
) STRICT;

CREATE TABLE resource_config_draft (
  id   INTEGER PRIMARY KEY CHECK (id = 1),         -- one row, or none
  body TEXT NOT NULL                               -- the draft as JSON
) STRICT;

CREATE TABLE charges (
  group_id        TEXT NOT NULL REFERENCES resource_groups (id), -- tries in which group
  priority        INTEGER NOT NULL,                -- of sessions of which priority
  shape           TEXT NOT NULL,                   -- what those have in common
  retries         INTEGER NOT NULL,                -- how many so far
  last_charged_at INTEGER NOT NULL,                -- when the last one was counted
  PRIMARY KEY (group_id, priority, shape)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
  group_id TEXT NOT NULL REFERENCES resource_groups (id), -- agents taken in turn in which group
  arch     TEXT NOT NULL,                          -- for which architecture; '' = any
  agent    TEXT NOT NULL,                          -- name of the one taken last
  PRIMARY KEY (group_id, arch)
) STRICT, WITHOUT ROWID;
