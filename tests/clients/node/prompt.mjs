// Prompts by the SDK, the command line and the MCP server. The daemon's model does what each line of a
// task says.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, test } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import Firecrawl from 'firecrawl';

const { PAGEBOX_URL, SITE_URL } = process.env;
const app = new Firecrawl({ apiUrl: PAGEBOX_URL });

/** A search on the page of that, and a line of what it found. */
function search(term) {
  return `Fill "Search..." with "${term}"\nClick "Search"\nTell me the line with "edition 2"`;
}

test('the SDK: a prompt, code on the same page, and a prompt that fails', async () => {
  const document = await app.scrape(`${SITE_URL}/search`, { formats: ['markdown'] });
  const id = document.metadata.scrapeId;
  const found = await app.interact(id, { prompt: search('spring'), timeout: 60 });
  assert.equal(found.success, true, found.error);
  assert.match(found.output, /spring in edition 2/);
  assert.match(found.result, /\[ref=/);
  assert.match(found.stdout, /spring in edition 2/);
  assert.deepEqual([found.exitCode, found.killed, found.stderr], [0, false, '']);
  const title = await app.interact(id, { code: 'await page.title()' });
  assert.equal(title.result, 'Results for spring');

  const refused = await app.interact(id, { prompt: 'Open "http://127.0.0.1:1/"' });
  assert.match(refused.output, /^I was refused: open/);
  const body = { prompt: 'Go on', maxSteps: 1, model: { name: 'looper' } };
  const reply = await fetch(`${PAGEBOX_URL}/v2/scrape/${id}/interact`, {
    method: 'POST',
    body: JSON.stringify(body),
  });
  const ended = await reply.json();
  assert.deepEqual([reply.status, ended.success, ended.exitCode], [200, false, 1]);
  await assert.rejects(app.interact(id, { prompt: 'x'.repeat(10_001) }), (error) => {
    assert.equal(error.status, 400);
    assert.match(error.message, /prompt is 10001 characters long/);
    return true;
  });
  assert.equal((await app.stopInteraction(id)).creditsBilled, 7);
});

test('the SDK: what a model makes of a page', async () => {
  const schema = { type: 'object', properties: { title: { type: 'string' } }, required: ['title'] };
  const formats = ['summary', { type: 'json', prompt: 'The title', schema }];
  const document = await app.scrape(`${SITE_URL}/article.html`, { formats });
  assert.equal(document.summary, 'A page about: How a tide table is made');
  assert.deepEqual(document.json, { title: 'How a tide table is made' });
});

/** Runs `firecrawl` with these arguments; what it printed. */
function firecrawl(...args) {
  const env = {
    ...process.env,
    FIRECRAWL_API_URL: PAGEBOX_URL,
    FIRECRAWL_NO_UPDATE_CHECK: '1',
    FIRECRAWL_NO_TELEMETRY: '1',
  };
  return new Promise((resolve, reject) => {
    const child = execFile('firecrawl', args, { env }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${args}: ${stdout}${stderr}`));
      else resolve(stdout);
    });
    child.stdin.end();
  });
}

test('the command line', async () => {
  await firecrawl('scrape', `${SITE_URL}/search`);
  assert.match(await firecrawl('interact', search('neap')), /neap in edition 2/);
  const title = await firecrawl('interact', '-c', 'await page.title()');
  assert.equal(title.trimEnd(), 'Results for neap');
  assert.match(await firecrawl('interact', 'stop'), /Credits billed: 7\n/);
});

const client = new Client({ name: 'pagebox-tests', version: '1.0.0' });
await client.connect(
  new StdioClientTransport({
    command: 'firecrawl-mcp',
    env: { ...process.env, FIRECRAWL_API_URL: PAGEBOX_URL },
    stderr: 'ignore',
  }),
);
after(() => client.close());

test('the MCP server', async () => {
  const args = { url: `${SITE_URL}/search`, prompt: search('ebb') };
  const reply = await client.callTool({ name: 'firecrawl_interact', arguments: args });
  assert.ok(!reply.isError, reply.content[0].text);
  const { success, output, exitCode, scrapeId } = reply.structuredContent;
  assert.deepEqual([success, exitCode], [true, 0]);
  assert.match(output, /ebb in edition 2/);
  await client.callTool({ name: 'firecrawl_interact_stop', arguments: { scrapeId } });
});
