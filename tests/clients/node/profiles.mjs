// Persistent profiles: the recipe that validates them, by the SDK and the command line.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import Firecrawl from 'firecrawl';

const { PAGEBOX_URL, SITE_URL } = process.env;
const app = new Firecrawl({ apiUrl: PAGEBOX_URL });
const WRITE = `await page.evaluate(() => {
  localStorage.setItem("firecrawlProfileCheck", "saved");
  document.cookie = "firecrawl_profile_check=saved; path=/; max-age=3600";
});`;
const READ = `JSON.stringify(await page.evaluate(() => [
  localStorage.getItem("firecrawlProfileCheck"),
  document.cookie.includes("firecrawl_profile_check=saved"),
]));`;

async function scraped(profile) {
  const document = await app.scrape(SITE_URL, { profile });
  return document.metadata.scrapeId;
}

test('what a session stores is there in the next one', async () => {
  const first = await scraped({ name: 'node', saveChanges: true });
  assert.equal((await app.interact(first, { code: WRITE })).success, true);
  await app.stopInteraction(first);
  const second = await scraped({ name: 'node', saveChanges: false });
  const read = await app.interact(second, { code: READ });
  assert.equal(read.result, '["saved",true]');
  await app.stopInteraction(second);
});

test('one session writes and others read', async () => {
  const profile = { name: 'one writer in node' };
  const writer = await app.browser({ profile });
  await assert.rejects(app.browser({ profile }), (error) => {
    assert.equal(error.status, 409);
    assert.match(error.message, /currently writing to this profile/);
    return true;
  });
  const reader = await app.browser({ profile: { ...profile, saveChanges: false } });
  for (const session of [reader, writer]) await app.deleteBrowser(session.id);
});

test('the command line', async () => {
  const run = promisify(execFile);
  const env = {
    ...process.env,
    FIRECRAWL_API_URL: PAGEBOX_URL,
    FIRECRAWL_NO_UPDATE_CHECK: '1',
    FIRECRAWL_NO_TELEMETRY: '1',
  };
  const firecrawl = async (...args) => (await run('firecrawl', args, { env })).stdout;
  await firecrawl('scrape', SITE_URL, '--profile', 'of the command line');
  await firecrawl('interact', '-c', WRITE);
  await firecrawl('interact', 'stop');
  await firecrawl('scrape', SITE_URL, '--profile', 'of the command line', '--no-save-changes');
  assert.equal(await firecrawl('interact', '-c', READ), '["saved",true]\n');
  await firecrawl('interact', 'stop');
});
