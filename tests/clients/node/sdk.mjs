// The JavaScript SDK.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import Firecrawl from 'firecrawl';

const { PAGEBOX_URL, SITE_URL } = process.env;
const UNKNOWN = '01a1fc28-7966-7644-9026-0c4c83e9012b';
const app = new Firecrawl({ apiUrl: PAGEBOX_URL });

/** Scrapes a page of the site; the id to go on with. */
async function scraped(path) {
  const document = await app.scrape(`${SITE_URL}${path}`, { formats: ['markdown'] });
  return document.metadata.scrapeId;
}

/** What code that must succeed on a scraped page results in. */
async function result(id, language, code) {
  const ran = await app.interact(id, { code, language });
  assert.equal(ran.success, true, ran.error);
  return ran.result;
}

/** Asserts that a call ends in the SDK's own error. Its code is axios's, where the reply has none. */
async function refused(call, status, message, code = 'ERR_BAD_REQUEST') {
  await assert.rejects(call, (error) => {
    assert.equal(error.name, 'FirecrawlSdkError');
    assert.equal(error.status, status, error.message);
    assert.match(error.message, message);
    assert.equal(error.code, code);
    return true;
  });
}

test('a scrape, and every language on the page it left', async () => {
  const document = await app.scrape(`${SITE_URL}/`, { formats: ['markdown', 'links'] });
  assert.match(document.markdown, /^# Harbours, tides/m);
  assert.ok(document.links.includes(`${SITE_URL}/article.html`));
  const { scrapeId: id, title, statusCode } = document.metadata;
  assert.deepEqual([title, statusCode], ['Tidewater Almanac', 200]);

  const first = await app.interact(id, { code: "await page.click('#tab-2'); console.log('done')" });
  const { success, stdout, stderr, exitCode, killed, truncated } = first;
  assert.deepEqual(
    { success, stdout, stderr, exitCode, killed, truncated, result: first.result },
    {
      success: true,
      stdout: 'done\n',
      stderr: '',
      exitCode: 0,
      killed: false,
      truncated: false,
      result: 'done',
    },
  );
  assert.match(first.cdpUrl, /^ws:\/\//);
  const files = 'almanac-1987.csv, almanac-2025.csv, corrections.txt, LICENSE';
  assert.equal(await result(id, 'python', "await page.text_content('#tab-2-content')"), files);
  assert.equal(await result(id, 'bash', "agent-browser get text '#tab-2-content'"), files);
  await result(id, 'node', "const fs = require('fs'); fs.writeFileSync('/tmp/kept', 'by node')");
  assert.equal(await result(id, 'bash', 'cat /tmp/kept'), 'by node');
  assert.equal(await result(id, 'node', 'context.pages().length'), '1');

  const stopped = await app.stopInteraction(id);
  assert.equal(stopped.success, true);
  assert.ok(stopped.sessionDurationMs > 0 && stopped.creditsBilled >= 2, JSON.stringify(stopped));
  const again = await app.stopInteraction(id);
  assert.equal(again.creditsBilled, stopped.creditsBilled);
  await refused(app.interact(id, { code: '1' }), 410, /destroyed/);
});

test('agent-browser first, with refs that hold', async () => {
  const id = await scraped('/search');
  const snapshot = await result(id, 'bash', 'agent-browser snapshot -i');
  assert.match(snapshot, /textbox "Search\.\.\.".*ref=e1\b/);
  await result(id, 'bash', 'agent-browser fill @e1 "firecrawl" && agent-browser click @e2');
  const title = "await page.waitForURL('**/search?*'); await page.title()";
  assert.equal(await result(id, 'node', title), 'Results for firecrawl');
  assert.equal(await result(id, 'node', 'context.pages().length'), '1');
  await app.stopInteraction(id);
});

test('a screenshot as a result', async () => {
  const id = await scraped('/article.html');
  const code = "(await page.screenshot({ fullPage: true })).toString('base64')";
  const png = Buffer.from(await result(id, 'node', code), 'base64');
  assert.equal(png.toString('latin1', 1, 4), 'PNG');
  assert.ok(png.length > 10_000, `${png.length} bytes`);
  await app.stopInteraction(id);
});

test('code that fails is returned, not thrown', async () => {
  const id = await scraped('/');
  const thrown = await app.interact(id, { code: "throw new TypeError('no such harbour')" });
  assert.deepEqual([thrown.success, thrown.exitCode, thrown.killed], [false, 1, false]);
  assert.match(thrown.error, /TypeError: no such harbour/);
  const failed = await app.interact(id, { code: 'echo lost >&2; exit 3', language: 'bash' });
  assert.deepEqual([failed.success, failed.exitCode, failed.error], [false, 3, 'lost']);
  await app.stopInteraction(id);
});

test('timeouts are seconds', async () => {
  const id = await scraped('/');
  // Also the client's own timeout, less 5 s, in which the session has to start.
  const slow = "await new Promise((done) => setTimeout(done, 6000)); 'awake'";
  const awake = await app.interact(id, { code: slow, timeout: 150 });
  assert.equal(awake.result, 'awake', awake.error);
  const killed = await app.interact(id, { code: 'while (true) {}', timeout: 2 });
  assert.deepEqual([killed.success, killed.killed, killed.exitCode], [false, true, 137]);
  assert.match(killed.error, /its timeout of 2 s/);
  assert.equal(await result(id, 'node', 'await page.title()'), 'Tidewater Almanac');
  await app.stopInteraction(id);
});

test('what is refused has a status', async () => {
  await refused(app.interact(UNKNOWN, { code: '1' }), 404, /Job not found/);
  await refused(app.interact('no-uuid', { code: '1' }), 400, /must be a valid UUID/);
  const id = await scraped('/about.html');
  await refused(app.stopInteraction(id), 404, /session not found/);
  const prompt = app.interact(id, { prompt: 'Click the first link' });
  await refused(prompt, 503, /^no model is configured/, 'MODEL_MISSING');
  await refused(app.interact(id, { code: '1', timeout: 301 }), 400, /timeout/, 'BAD_REQUEST');
  const nowhere = app.scrape('http://nowhere.invalid/', { formats: ['markdown'] });
  await refused(nowhere, 200, /nowhere\.invalid/, 'SCRAPE_DNS_RESOLUTION_ERROR');
});

test('a standalone session', async () => {
  const session = await app.browser({ ttl: 120, activityTtl: 60 });
  assert.equal(session.success, true);
  const left = Date.parse(session.expiresAt) - Date.now();
  assert.ok(left > 60_000 && left <= 120_000, session.expiresAt);
  const { id } = session;

  const opened = await app.browserExecute(id, {
    code: `agent-browser open ${SITE_URL}/ >/dev/null && agent-browser get title`,
  });
  assert.equal(opened.stdout, 'Tidewater Almanac\n', opened.error);
  const python = { code: 'print(await page.title())', language: 'python', timeout: 60 };
  assert.equal((await app.browserExecute(id, python)).stdout, 'Tidewater Almanac\n');
  const failed = await app.browserExecute(id, { code: 'nowhere()', language: 'node' });
  assert.deepEqual([failed.success, failed.exitCode], [true, 1]);
  assert.match(failed.error, /nowhere is not defined/);

  const listed = async (status) => {
    const { sessions } = await app.listBrowsers({ status });
    return sessions.find((item) => item.id === id);
  };
  const item = await listed('active');
  assert.deepEqual([item.status, item.cdpUrl], ['active', session.cdpUrl]);
  const ended = await app.deleteBrowser(id);
  assert.ok(ended.success && ended.sessionDurationMs > 0 && ended.creditsBilled === 2);
  assert.equal((await app.deleteBrowser(id)).success, true);
  assert.equal(await listed('active'), undefined);
  assert.equal((await listed('destroyed')).status, 'destroyed');
  await refused(app.browserExecute(id, { code: 'true' }), 410, /destroyed/);
  await refused(app.deleteBrowser(UNKNOWN), 404, /session not found/);
});
