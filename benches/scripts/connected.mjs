// A Playwright script that stays connected to a browser: every answer is the title of its page.
// Arguments: directory with playwright-core, CDP endpoint.
import { answer, playwright } from './answer.mjs';

const [modules, endpoint] = process.argv.slice(2);
const browser = await playwright(modules).connectOverCDP(endpoint);
const page = browser.contexts()[0].pages()[0];
await answer(() => page.title());
await browser.close();
