//! The JS SDK, the CLI, the MCP server; Playwright and Puppeteer over `cdpUrl`.
