// A Playwright script that launches a Chromium for each job.
// Arguments: directory with playwright-core, program of Chromium, URL.
import { answer, job, playwright } from './answer.mjs';

const [modules, executablePath, url] = process.argv.slice(2);
const chromium = playwright(modules);
await answer(() => job(() => chromium.launch({ executablePath }), url));
