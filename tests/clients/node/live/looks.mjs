// What the live view looks like: in each state, size and scheme everything has its place. With
// PAGEBOX_PICTURES, a folder, each is kept there as a picture.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Relay } from './relay.mjs';
import { eventually, Session } from './session.mjs';
import { Viewer } from './viewer.mjs';

const { PAGEBOX_PICTURES } = process.env;
const DARK = { context: { colorScheme: 'dark' } };
const PHONE = { width: 390, height: 780, context: { hasTouch: true, deviceScaleFactor: 2 } };

/** Asserts that nothing is cut off or lies over something else, and keeps a picture. */
async function looksGood(viewer, name) {
  const faults = await viewer.frame.evaluate(() => {
    const found = [];
    const { scrollWidth, scrollHeight } = document.documentElement;
    if (scrollWidth > innerWidth || scrollHeight > innerHeight) found.push('the page scrolls');
    const shown = [...document.querySelectorAll('header button, #address, footer span, #holder')]
      .filter((element) => element.checkVisibility({ visibilityProperty: true }))
      .filter((element) => !element.closest('#tabs'));
    const boxes = shown.map((element) => [element, element.getBoundingClientRect()]);
    for (const [element, box] of boxes) {
      const what = element.id || element.className || element.textContent;
      const isInside =
        box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
      if (!isInside) found.push(`${what} is outside`);
      if (element.scrollWidth > element.clientWidth + 1 && element.matches('button'))
        found.push(`${what} is cut`);
      for (const [other, { left, right, top, bottom }] of boxes) {
        if (other === element || other.contains(element) || element.contains(other)) continue;
        const isOver =
          left < box.right - 1 &&
          right > box.left + 1 &&
          top < box.bottom - 1 &&
          bottom > box.top + 1;
        if (isOver) found.push(`${what} is over ${other.id || other.className}`);
      }
    }
    return found;
  });
  assert.deepEqual(faults, [], name);
  if (!PAGEBOX_PICTURES) return;
  // The picture of the page behind is whole a moment later.
  await new Promise((go) => setTimeout(go, 700));
  const path = join(PAGEBOX_PICTURES, `${name}.png`);
  await viewer.page.locator('iframe').screenshot({ path, scale: 'device' });
}

/** A session that has some tabs, the last one shown. */
async function office() {
  const session = await Session.open('/article.html');
  await session.run(`
    const { origin } = new URL(page.url());
    const other = await context.newPage();
    await other.goto(origin + '/workbench.html');
    const shown = await context.newPage();
    await shown.goto(origin + '/live.html');
    await shown.fill('#text', 'Petrel');
    await shown.bringToFront(); 1`);
  return session;
}

for (const [size, options] of Object.entries({ light: {}, dark: DARK, phone: PHONE }))
  test(`in control and around it: ${size}`, async () => {
    const session = await office();
    const viewer = await Viewer.open(session.controlUrl, options);
    const { frame, page } = viewer;
    await viewer.watches();
    await viewer.shows('.is-active .tab-title', 'Harbour office');
    await eventually(async () => assert.match(await frame.inputValue('#address'), /live\.html$/));
    await looksGood(viewer, `${size}-code`);
    await viewer.takes();
    await viewer.click(session, '#text');
    await looksGood(viewer, `${size}-control`);
    await viewer.click(session, '#choice');
    await frame.waitForSelector('#list [role=option]');
    await looksGood(viewer, `${size}-list`);
    await page.keyboard.press('Escape');
    await frame.click('.tab-title >> text=Workbench');
    await viewer.shows('.is-active .tab-title', 'Workbench');
    await viewer.click(session, '#download');
    await frame.waitForSelector('.note');
    await looksGood(viewer, `${size}-note`);
    await frame.waitForSelector('#downloads-button', { state: 'visible' });
    await frame.click('#downloads-button');
    await looksGood(viewer, `${size}-downloads`);
    await page.keyboard.press('Escape');
    await frame.click('#help-button');
    await looksGood(viewer, `${size}-help`);
    await page.keyboard.press('Escape');
    await viewer.click(session, '#prompt');
    await frame.waitForSelector('#ask[open]');
    await looksGood(viewer, `${size}-prompt`);
    await frame.click('#ask-no');
    await viewer.click(session, '#file');
    await frame.waitForSelector('#chooser[open]');
    await looksGood(viewer, `${size}-chooser`);
    await frame.click('#chooser-cancel');
    await frame.focus('#address');
    await looksGood(viewer, `${size}-address`);
    await session.stop();
    await viewer.shows('#cover-title', 'The session has ended');
    await looksGood(viewer, `${size}-ended`);
    await viewer.close();
  });

for (const [size, options] of Object.entries({
  light: {},
  small: { width: 480, height: 320 },
  strip: { width: 700, height: 260 },
  tiny: { width: 280, height: 240 },
}))
  test(`who only watches, and whose line breaks: ${size}`, async () => {
    const session = await office();
    const relay = await Relay.open(session.viewUrl);
    const viewer = await Viewer.open(relay.url(session.viewUrl), options);
    await viewer.watches();
    await viewer.shows('.is-active .tab-title', 'Harbour office');
    await looksGood(viewer, `${size}-watch`);
    relay.cut();
    await viewer.shows('#cover-title', 'No connection to the session');
    await looksGood(viewer, `${size}-lost`);
    relay.close();
    await viewer.context.close();
    await session.stop();
  });

test('without motion, and with more contrast', async () => {
  const session = await Session.open('/slow?ms=1');
  const context = { reducedMotion: 'reduce', contrast: 'more' };
  const viewer = await Viewer.open(session.controlUrl, { width: 700, height: 500, context });
  await viewer.takes();
  await viewer.frame.fill('#address', new URL('/slow?ms=20000', process.env.SITE_URL).href);
  await viewer.frame.press('#address', 'Enter');
  await viewer.frame.waitForSelector('.is-loading');
  const moving = await viewer.frame.evaluate(
    () => document.getAnimations().filter(({ playState }) => playState === 'running').length,
  );
  assert.equal(moving, 0);
  await looksGood(viewer, 'contrast');
  await viewer.close();
  await session.stop();
});
