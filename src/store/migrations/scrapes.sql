-- Times in milliseconds. `options` is what is needed to do a scrape again, `session` the one made of it.
CREATE TABLE scrapes (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  created INTEGER NOT NULL,
  options TEXT,
  document TEXT,
  session TEXT
) STRICT;
CREATE INDEX scrapes_created ON scrapes (created);
