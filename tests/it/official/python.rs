//! firecrawl-py, sync and async.
