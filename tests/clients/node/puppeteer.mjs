// Puppeteer over `cdpUrl`.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import puppeteer from 'puppeteer-core';

const { PAGEBOX_URL, SITE_URL } = process.env;

/** A request to the API that must succeed. */
async function api(method, path, body) {
  const response = await fetch(`${PAGEBOX_URL}${path}`, { method, body: JSON.stringify(body) });
  const reply = await response.json();
  assert.equal(response.status, 200, reply.error);
  return reply;
}

/** What node code of the session results in. */
async function execute({ id }, code) {
  const ran = await api('POST', `/v2/browser/${id}/execute`, { code });
  assert.equal(ran.exitCode, 0, ran.error);
  return ran.result;
}

function connect({ cdpUrl }) {
  return puppeteer.connect({ browserWSEndpoint: cdpUrl, defaultViewport: null });
}

test('the page of executions, driven from outside', async () => {
  const session = await api('POST', '/v2/browser');
  const browser = await connect(session);
  const [page, ...others] = await browser.pages();
  assert.deepEqual(others, []);
  await page.goto(`${SITE_URL}/`);
  assert.equal(await execute(session, 'await page.title()'), 'Tidewater Almanac');
  await page.click('#tab-2');
  const files = await page.$eval('#tab-2-content', (element) => element.textContent);
  assert.match(files, /^almanac-1987\.csv, /);
  assert.equal(await execute(session, "await page.textContent('#tab-2-content')"), files);
  await execute(session, "await page.evaluate(() => { window.left = 'here' })");
  assert.equal(await page.evaluate(() => window.left), 'here');
  const png = await page.screenshot({ fullPage: true });
  assert.equal(Buffer.from(png).toString('latin1', 1, 4), 'PNG');

  const second = await browser.newPage();
  await second.goto(`${SITE_URL}/about.html`);
  const titles = 'Promise.all(context.pages().map((page) => page.title()))';
  const both = JSON.parse(await execute(session, `await ${titles}`));
  assert.deepEqual(both.sort(), ['About the almanac', 'Tidewater Almanac']);
  await second.close();
  assert.equal(await execute(session, 'await page.title()'), 'Tidewater Almanac');

  const disconnected = once(browser, 'disconnected');
  await api('DELETE', `/v2/browser/${session.id}`);
  await disconnected;
});

test('several at once, whose ends are only their own', async () => {
  const session = await api('POST', '/v2/browser');
  const browsers = await Promise.all([1, 2, 3].map(() => connect(session)));
  const pages = await Promise.all(browsers.map(async (browser) => (await browser.pages())[0]));
  await pages[0].goto(`${SITE_URL}/article.html`);
  for (const page of pages) {
    assert.equal(await page.title(), 'How a tide table is made');
  }
  await browsers[0].close();
  await browsers[1].disconnect();
  assert.equal(await pages[2].title(), 'How a tide table is made');
  assert.equal(await execute(session, 'await page.title()'), 'How a tide table is made');
  const again = await connect(session);
  assert.equal((await again.pages()).length, 1);
  await again.disconnect();
  await browsers[2].disconnect();
  await api('DELETE', `/v2/browser/${session.id}`);
});
