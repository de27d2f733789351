// The MCP server over stdio, with the protocol's own client.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const { PAGEBOX_URL, SITE_URL } = process.env;
const client = new Client({ name: 'pagebox-tests', version: '1.0.0' });
await client.connect(
  new StdioClientTransport({
    command: 'firecrawl-mcp',
    env: { ...process.env, FIRECRAWL_API_URL: PAGEBOX_URL },
    stderr: 'ignore',
  }),
);
after(() => client.close());

/** Calls a tool that must succeed: its structured result, and all of it from the text. */
async function good(tool, args) {
  const { isError, content, structuredContent } = await call(tool, args);
  assert.ok(!isError, content[0].text);
  return { structured: structuredContent, whole: JSON.parse(content[0].text) };
}

/** Calls a tool that must fail: what it says. */
async function bad(tool, args) {
  const { isError, content } = await call(tool, args);
  assert.equal(isError, true, content[0].text);
  return content[0].text;
}

function call(name, args) {
  return client.callTool({ name, arguments: args });
}

/** An interaction that must succeed; its structured result. */
async function interact(args) {
  const { structured } = await good('firecrawl_interact', args);
  assert.equal(structured.success, true, structured.error);
  return structured;
}

test('a scrape, interactions by its id, and their end', async () => {
  const url = `${SITE_URL}/`;
  const { whole } = await good('firecrawl_scrape', { url, formats: ['markdown'] });
  assert.match(whole.markdown, /^# Harbours, tides/m);
  const { scrapeId } = whole.metadata;

  await interact({ scrapeId, code: "await page.click('#tab-2')" });
  const code = "print(await page.text_content('#tab-2-content'))";
  const python = await interact({ scrapeId, code, language: 'python', timeout: 60 });
  assert.match(python.stdout, /^almanac-1987\.csv, /);
  const bash = { scrapeId, code: 'agent-browser get title', language: 'bash' };
  const { structured, whole: told } = await good('firecrawl_interact', bash);
  assert.deepEqual([structured.result, structured.exitCode], ['Tidewater Almanac', 0]);
  assert.match(told.cdpUrl, /^ws:\/\//);

  const failing = { scrapeId, code: "throw new RangeError('adrift')" };
  const failed = (await good('firecrawl_interact', failing)).structured;
  assert.deepEqual([failed.success, failed.exitCode], [false, 1]);
  assert.match(failed.error, /RangeError: adrift/);

  assert.equal((await good('firecrawl_interact_stop', { scrapeId })).whole.success, true);
  assert.match(await bad('firecrawl_interact', { scrapeId, code: '1' }), /destroyed/);
});

test('interactions by URL', async () => {
  const url = `${SITE_URL}/search`;
  const opened = { url, code: 'await page.title()', scrapeOptions: { waitFor: 100 } };
  const { result, scrapeId } = await interact(opened);
  assert.equal(result, 'Search');
  const snapshot = { scrapeId, code: 'agent-browser snapshot -i', language: 'bash' };
  assert.match((await interact(snapshot)).stdout, /button "Search"/);
  await good('firecrawl_interact_stop', { scrapeId });
});

test('what is refused is an error of the tool', async () => {
  const scrapeId = '01a1fc28-7966-7644-9026-0c4c83e9012b';
  assert.match(await bad('firecrawl_interact', { scrapeId, code: '1' }), /Job not found/);
  assert.match(await bad('firecrawl_interact_stop', { scrapeId }), /status code 404/);
  const nowhere = { url: 'http://nowhere.invalid/', formats: ['markdown'] };
  assert.match(await bad('firecrawl_scrape', nowhere), /nowhere\.invalid/);
  const { whole } = await good('firecrawl_scrape', { url: `${SITE_URL}/about.html` });
  const prompt = { scrapeId: whole.metadata.scrapeId, prompt: 'Click the first link' };
  assert.match(await bad('firecrawl_interact', prompt), /no model is configured/);
});
