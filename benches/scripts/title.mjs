// What one does without Pagebox: a node process that connects to a running Chromium, asks its page
// for the title, and ends. Arguments: directory with playwright-core, CDP endpoint.
import { createRequire } from 'node:module';

const [modules, endpoint] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/`)('playwright-core');
const browser = await chromium.connectOverCDP(endpoint);
const page = browser.contexts()[0].pages()[0];
console.log(await page.title());
await browser.close();
