// How the scripts that stay talk: when they are ready they say so, and then answer each line of stdin
// with what they say to it, and how long that took inside of them in milliseconds.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

/** Playwright as it lies in a directory of modules. */
export function playwright(modules) {
  return createRequire(`${modules}/`)('playwright-core').chromium;
}

export async function answer(say) {
  console.log(JSON.stringify({ said: 'ready', ms: 0 }));
  for await (const line of createInterface({ input: process.stdin })) {
    const begun = performance.now();
    const said = await say(line);
    console.log(JSON.stringify({ said, ms: performance.now() - begun }));
  }
}

/**
 * A browser for one job: opens the URL, has its title, ends. The title, and the milliseconds until there
 * was the browser, and until it had a page.
 */
export async function job(start, url) {
  const begun = performance.now();
  const browser = await start();
  const launched = performance.now() - begun;
  const page = await browser.newPage();
  const opened = performance.now() - begun;
  await page.goto(url);
  const title = await page.title();
  await browser.close();
  return { title, launched, opened };
}
