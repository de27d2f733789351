// A script that holds a blank headless shell, launched with Playwright's defaults, until stdin ends.
// Arguments: directory with playwright-core, program of Chromium.
import { answer, playwright } from './answer.mjs';

const [modules, executablePath] = process.argv.slice(2);
const browser = await playwright(modules).launch({ executablePath });
const page = await browser.newPage();
await answer(() => page.title());
await browser.close();
