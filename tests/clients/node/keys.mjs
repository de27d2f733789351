// A daemon that asks for keys. Its argument is one.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import Firecrawl from 'firecrawl';

const apiUrl = process.env.PAGEBOX_URL;
const [key] = process.argv.slice(2);

test('the SDK', async () => {
  for (const apiKey of ['', 'fc-unknown']) {
    const refused = new Firecrawl({ apiUrl, apiKey }).listBrowsers();
    await assert.rejects(refused, { name: 'FirecrawlSdkError', status: 401, message: /key/ });
  }
  const { sessions } = await new Firecrawl({ apiUrl, apiKey: key }).listBrowsers();
  assert.deepEqual(sessions, []);
});

test('the command line', async () => {
  const run = promisify(execFile);
  const list = (more) => {
    const env = { ...process.env, FIRECRAWL_API_URL: apiUrl, FIRECRAWL_NO_TELEMETRY: '1', ...more };
    return run('firecrawl', ['browser', 'list'], { env });
  };
  await assert.rejects(list({}), { code: 1, stderr: /^Error: .*key/ });
  const { stdout } = await list({ FIRECRAWL_API_KEY: key });
  assert.equal(stdout, 'No active browser sessions.\n');
});
