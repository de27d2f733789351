// A client of Playwright's run-server, which launches a Chromium for each connection. It answers `title`
// by that of a page it keeps open, and does a `job` over a connection of its own.
// Arguments: directory with playwright-core, the server's endpoint, program of Chromium, URL.
import { answer, job, playwright } from './answer.mjs';

const [modules, endpoint, executablePath, url] = process.argv.slice(2);
const chromium = playwright(modules);
const headers = { 'x-playwright-launch-options': JSON.stringify({ executablePath }) };
const connect = () => chromium.connect(endpoint, { headers });
const kept = await connect();
const page = await kept.newPage();
await page.goto(url);
await answer((line) => (line === 'title' ? page.title() : job(connect, url)));
await kept.close();
