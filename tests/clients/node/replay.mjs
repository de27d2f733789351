// The JavaScript SDK on a daemon that keeps no browser of a scrape, and does it again.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, test } from 'node:test';
import Firecrawl from 'firecrawl';

const app = new Firecrawl({ apiUrl: process.env.PAGEBOX_URL });
const WHOLE = '<title>Before</title><button onclick="document.title=\'After\'">Go</button>';

let page = WHOLE;
const server = createServer((_, response) => {
  response.setHeader('content-type', 'text/html').end(page);
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
after(() => server.close());
const url = `http://localhost:${server.address().port}/`;

test('a page that has changed is a conflict, until it is back', async () => {
  const actions = [{ type: 'click', selector: 'button' }];
  const document = await app.scrape(url, { formats: ['markdown'], actions });
  const id = document.metadata.scrapeId;
  page = '<title>Closed</title>';
  await assert.rejects(app.interact(id, { code: 'await page.title()' }), (error) => {
    assert.deepEqual([error.name, error.status], ['FirecrawlSdkError', 409], error.message);
    assert.match(error.message, /^Failed to initialize browser session from the original scrape/);
    return true;
  });
  page = WHOLE;
  // Seconds, with 5 more for all else: a session started anew has to fit.
  const title = await app.interact(id, { code: 'await page.title()', timeout: 5 });
  assert.equal(title.result, 'After', title.error);
  await app.stopInteraction(id);
});
