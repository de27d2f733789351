-- Times and spans in milliseconds. `reserved` is what a session may cost until its ttl, `credits`
-- what it did cost; `seen` is when its daemon last had it.
CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  kind TEXT NOT NULL,
  scrape_id TEXT,
  created INTEGER NOT NULL,
  ttl INTEGER NOT NULL,
  reserved INTEGER NOT NULL,
  prompt INTEGER NOT NULL,
  seen INTEGER NOT NULL,
  ended INTEGER,
  end_reason TEXT,
  lived INTEGER,
  credits INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_owner ON sessions (tenant, user, created);
CREATE INDEX sessions_live ON sessions (created) WHERE ended IS NULL;
CREATE INDEX sessions_ended ON sessions (ended) WHERE ended IS NOT NULL;
