// The command line, which brings an older SDK with it. Its HOME is the test's own.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';

const { PAGEBOX_URL, SITE_URL } = process.env;
const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;
const ENVIRONMENT = {
  ...process.env,
  FIRECRAWL_API_URL: PAGEBOX_URL,
  FIRECRAWL_NO_UPDATE_CHECK: '1',
  FIRECRAWL_NO_TELEMETRY: '1',
};

/** Runs `firecrawl` with these arguments: its exit code and what it wrote. */
function firecrawl(args, more = {}) {
  return new Promise((resolve) => {
    const env = { ...ENVIRONMENT, ...more };
    const child = execFile('firecrawl', args, { env }, (_, stdout, stderr) => {
      resolve({ exitCode: child.exitCode, stdout, stderr });
    });
    child.stdin.end();
  });
}

/** The stdout of a run that must succeed. */
async function good(...args) {
  const { exitCode, stdout, stderr } = await firecrawl(args);
  assert.equal(exitCode, 0, `${args}: ${stdout}${stderr}`);
  return stdout;
}

/** The stderr of a run that must fail. */
async function bad(...args) {
  const { exitCode, stdout, stderr } = await firecrawl(args);
  assert.equal(exitCode, 1, `${args}: ${stdout}${stderr}`);
  return stderr;
}

test('a scrape, interactions with the last one, and its end', async () => {
  assert.match(await good('scrape', `${SITE_URL}/`), /^# Harbours, tides/m);
  await good('interact', '-c', "await page.click('#tab-2')");
  const code = "await page.text_content('#tab-2-content')";
  assert.equal(
    await good('interact', '--python', '-c', code),
    'almanac-1987.csv, almanac-2025.csv, corrections.txt, LICENSE\n',
  );
  assert.equal(
    await good('interact', '--bash', '-c', 'agent-browser get title'),
    'Tidewater Almanac\n',
  );

  const ran = await firecrawl(['interact', '-c', "console.log('out'); console.error('err')"]);
  assert.deepEqual([ran.exitCode, ran.stdout], [0, 'out\n']);
  assert.match(ran.stderr, /^err$/m);
  const id = UUID.exec(ran.stderr)[0];
  const whole = JSON.parse(await good('interact', '--json', '-c', '6 * 7'));
  assert.deepEqual([whole.success, whole.result, whole.exitCode], [true, '42', 0]);

  assert.match(await bad('interact', '-c', "throw new RangeError('adrift')"), /RangeError: adrift/);
  const killed = await bad('interact', '--timeout', '1', '-c', 'while (true) {}');
  assert.match(killed, /killed at its timeout of 1 s/);
  assert.match(await bad('interact', 'Click the first link'), /^Error: no model is configured/m);

  const stopped = await good('interact', 'stop');
  assert.match(
    stopped,
    new RegExp(`^Session stopped \\(${id}\\)\nDuration: [0-9.]+s\nCredits billed: 2\n`),
  );
  assert.match(await good('interact', 'stop', id), /^Session stopped .*\nCredits billed: 2\n/);
  assert.match(await bad('interact', '-s', id, '-c', '1'), /destroyed/);
});

test('what cannot be scraped or is not known', async () => {
  assert.match(await bad('scrape', 'http://nowhere.invalid/'), /nowhere\.invalid/);
  const unknown = '01a1fc28-7966-7644-9026-0c4c83e9012b';
  assert.match(await bad('interact', '-s', unknown, '-c', '1'), /^Error: Job not found/m);
  assert.match(await bad('interact', 'stop', unknown), /^Error: Browser session not found/m);
});

test('a standalone session', async () => {
  const launched = await good(
    'browser',
    'launch-session',
    '--ttl',
    '120',
    '--ttl-inactivity',
    '60',
  );
  const id = UUID.exec(launched)[0];
  assert.match(launched, /^CDP URL: +ws:\/\/.*\?token=/m);
  const title = 'Tidewater Almanac\n';
  assert.match(await good('browser', 'execute', `open ${SITE_URL}/`), /Tidewater Almanac/);
  const node = ['browser', 'execute', '--node', 'await page.title()'];
  assert.equal(await good(...node), title);
  assert.equal(await good('browser', 'execute', '--python', 'print(await page.title())'), title);
  assert.equal(await good('browser', 'execute', '--bash', 'echo "$((6 * 7))"'), '42\n');
  const failed = await firecrawl(['browser', 'execute', '--bash', 'echo lost >&2; exit 3']);
  assert.deepEqual(failed, { exitCode: 0, stdout: '', stderr: 'Code error: lost\n' });
  assert.match(
    await good('browser', 'list', 'active'),
    new RegExp(`^${id}  active  created `, 'm'),
  );
  assert.match(await good('browser', 'close'), new RegExp(`Session closed \\(${id}\\)`));
  assert.match(await good('browser', 'list', 'destroyed'), new RegExp(`^${id}  destroyed`, 'm'));
  assert.match(
    await bad('browser', 'execute', '--session', id, 'snapshot'),
    /has expired or been destroyed/,
  );
});

test('a session that has ended is made anew', async () => {
  const first = await firecrawl(['browser', `open ${SITE_URL}/about.html`]);
  assert.equal(first.exitCode, 0, first.stderr);
  const id = /^Session launched: (.*)$/m.exec(first.stderr)[1];
  assert.equal(await good('browser', 'get title'), 'About the almanac\n');
  await fetch(`${PAGEBOX_URL}/v2/browser/${id}`, { method: 'DELETE' });
  const second = await firecrawl(['browser', 'get url']);
  assert.deepEqual([second.exitCode, second.stdout], [0, 'about:blank\n'], second.stderr);
  assert.match(second.stderr, /^Cached session expired, launching a new one/);
  await good('browser', 'close');
});

test('its status', async () => {
  const { exitCode, stdout } = await firecrawl(['--status'], { FIRECRAWL_API_KEY: 'any' });
  assert.equal(exitCode, 0);
  const said = stripVTControlCharacters(stdout);
  assert.match(said, /Authenticated via FIRECRAWL_API_KEY/);
  assert.match(said, /Concurrency: \d+\/\d+ jobs/);
  assert.match(said, /Credits: [\d,]+ \/ [\d,]+/);
});
