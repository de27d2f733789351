// What lies around and over the picture: tabs, address, dialogs, lists, files, who is in control.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { at, eventually, Session } from './session.mjs';
import { Viewer } from './viewer.mjs';

const ANSWER = "document.querySelector('#dialog-answer').textContent";

/** A session on a page, and a viewer in control. */
async function inControl(path, options) {
  const session = await Session.open(path);
  const viewer = await Viewer.open(session.controlUrl, options);
  await viewer.takes();
  return { session, viewer };
}

async function ends({ session, viewer }) {
  await viewer.close();
  await session.stop();
}

/** The element of the live view that has the focus. */
const focused = (viewer) => viewer.frame.evaluate(() => document.activeElement?.id);

test('alert, confirm, prompt and beforeunload', async () => {
  const both = await inControl('/workbench.html');
  const { session, viewer } = both;
  const { frame } = viewer;
  const { keyboard } = viewer.page;
  const opens = () => frame.waitForSelector('#ask', { state: 'visible' });
  /** The same question may be next, whose answer would go to this one. */
  const closes = () => frame.waitForSelector('#ask', { state: 'hidden' });
  const asked = async (selector, title, text) => {
    await viewer.click(session, selector);
    await opens();
    await viewer.shows('#ask-title', title);
    await viewer.shows('#ask-text', text);
  };
  const host = `${new URL(at('/')).host} says`;
  await asked('#alert', host, 'The tide is turning');
  assert.equal(await frame.isVisible('#ask-no'), false);
  await keyboard.press('Enter');
  await closes();
  await session.becomes(ANSWER, 'alert closed');
  await asked('#confirm', host, 'Leave the harbour?');
  await frame.click('#ask-yes');
  await closes();
  await session.becomes(ANSWER, 'confirm: true');
  await asked('#confirm', host, 'Leave the harbour?');
  await keyboard.press('Escape');
  await closes();
  await session.becomes(ANSWER, 'confirm: false');
  await asked('#prompt', host, 'Name of the boat?');
  assert.equal(await frame.inputValue('#ask-value'), 'Petrel');
  await keyboard.type('Kittiwake');
  await keyboard.press('Enter');
  await closes();
  await session.becomes(ANSWER, 'prompt: Kittiwake');
  // The keys go to the page again.
  await eventually(async () => assert.equal(await focused(viewer), 'keys'));
  await viewer.click(session, '#beforeunload');
  await session.becomes(ANSWER, 'beforeunload armed');
  await frame.click('#reload');
  await opens();
  await viewer.shows('#ask-title', 'Leave this page?');
  await frame.click('#ask-no');
  await closes();
  await session.becomes(ANSWER, 'beforeunload armed');
  await frame.click('#reload');
  await opens();
  await viewer.shows('#ask-title', 'Leave this page?');
  await frame.click('#ask-yes');
  await closes();
  await session.becomes(ANSWER, '');
  await ends(both);
});

test('a question that is asked again and again', async () => {
  const both = await inControl('/workbench.html');
  const { session, viewer } = both;
  const { frame } = viewer;
  await frame.evaluate(() => {
    window.asked = 0;
    const count = () => {
      window.asked += 1;
    };
    new MutationObserver(count).observe(document.querySelector('#ask-text'), { childList: true });
  });
  await session.see(`setTimeout(() => {
    let n = 1;
    while (!confirm('Sure?')) n += 1;
    document.title = n + ' times';
  }) && 1`);
  for (const [times, answer] of ['#ask-no', '#ask-no', '#ask-yes'].entries()) {
    await frame.waitForFunction((before) => window.asked > before, times);
    await viewer.shows('#ask-text', 'Sure?');
    await frame.click(answer);
  }
  await frame.waitForSelector('#ask', { state: 'hidden' });
  await session.becomes('document.title', '3 times');
  await ends(both);
});

test('a page that has crashed is loaded again', async () => {
  const both = await inControl('/workbench.html');
  const { session, viewer } = both;
  const { frame } = viewer;
  await session.see(`setTimeout(() => {
    let at = document.body.appendChild(document.createElement('div'));
    for (let i = 0; i < 100_000; i += 1) at = at.appendChild(document.createElement('div'));
    document.body.offsetHeight;
  }, 100) && 1`);
  await frame.click('#revive');
  await frame.waitForSelector('#crash', { state: 'hidden' });
  await viewer.shows('.is-active .tab-title', 'Workbench');
  await ends(both);
});

test('a tab shows nothing of the one before', async () => {
  const both = await inControl('/workbench.html');
  const { session, viewer } = both;
  const { frame } = viewer;
  // What is shown while the address is the new one's, and its page says nothing yet.
  await frame.evaluate((path) => {
    window.wrong = [];
    const look = () => {
      const isNew = document.querySelector('#address').value.endsWith(path);
      const { visibility } = getComputedStyle(document.querySelector('#picture'));
      if (isNew && window.wrong.length < 99) window.wrong.push(visibility);
      requestAnimationFrame(look);
    };
    look();
  }, '/article.html');
  await session.run(`const next = await context.newPage();
    await next.goto(${JSON.stringify(at('/article.html'))});
    await next.bringToFront(); 1`);
  await eventually(async () => assert.ok((await frame.evaluate('window.wrong')).length > 30));
  assert.equal((await frame.evaluate('window.wrong'))[0], 'hidden');
  assert.equal((await frame.evaluate('window.wrong')).at(-1), 'visible');
  await ends(both);
});

test('a list of choices, by mouse and by keyboard', async () => {
  const both = await inControl('/live.html');
  const { session, viewer } = both;
  const { frame } = viewer;
  const { keyboard } = viewer.page;
  const options = frame.locator('#list [role=option]');
  await viewer.click(session, '#choice');
  await options.nth(4).waitFor();
  assert.deepEqual(await options.allInnerTexts(), [
    'Choose a harbour',
    'Skerry Haven',
    'Old Quay',
    'Gull Point (closed)',
    'Lantern Bay',
    'Mill Creek',
  ]);
  // In its place: below its field, as wide at least.
  const field = await session.box('#choice');
  const below = await viewer.pointAt(session, field.x, field.y + field.height);
  const list = await frame.locator('#list').boundingBox();
  assert.ok(Math.abs(list.x - below.x) < 3 && Math.abs(list.y - below.y) < 3, JSON.stringify(list));
  await options.filter({ hasText: 'Lantern Bay' }).click();
  await session.becomes("document.querySelector('#choice').value", 'lantern');
  const told = await session.seen('input', 'change');
  assert.deepEqual(
    told.map(({ type, on }) => [type, on]),
    [
      ['input', 'choice'],
      ['change', 'choice'],
    ],
  );
  // The focus is back on the page, where the space bar opens the list again.
  await keyboard.press(' ');
  await frame.waitForSelector('#list [role=listbox]');
  await keyboard.press('ArrowUp');
  await keyboard.press('Enter');
  await session.becomes("document.querySelector('#choice').value", 'quay');
  await keyboard.press(' ');
  await frame.waitForSelector('#list [role=listbox]');
  await keyboard.type('mi');
  await keyboard.press('Enter');
  await session.becomes("document.querySelector('#choice').value", 'mill');
  await keyboard.press(' ');
  await frame.waitForSelector('#list [role=listbox]');
  await keyboard.press('Home');
  await keyboard.press('Escape');
  await frame.waitForSelector('#list', { state: 'hidden' });
  await session.becomes("document.querySelector('#choice').value", 'mill');
  await ends(both);
});

test('files of this computer for the page', async () => {
  const both = await inControl('/workbench.html');
  const { session, viewer } = both;
  const { frame } = viewer;
  const content = Buffer.from('Skerry Haven;3.9\n'.repeat(100_000));
  const line = `tide tables – ä.csv ${content.length} ${createHash('sha256').update(content).digest('hex')}`;
  await viewer.click(session, '#file');
  await frame.waitForSelector('#chooser[open]');
  await frame.click('#chooser-send');
  await viewer.shows('#chooser-state', 'No file is chosen yet.');
  await frame.setInputFiles('#chooser-files', [
    { name: 'tide tables – ä.csv', mimeType: 'text/csv', buffer: content },
    { name: 'empty', mimeType: 'text/plain', buffer: Buffer.alloc(0) },
  ]);
  await frame.click('#chooser-send');
  await eventually(async () => {
    const chosen = await session.see("document.querySelector('#chosen').textContent");
    assert.equal(chosen.split('\n')[0], line);
    assert.match(chosen.split('\n')[1], /^empty 0 /);
  });
  await frame.waitForSelector('#chooser', { state: 'hidden' });
  await viewer.click(session, '#file');
  await frame.waitForSelector('#chooser[open]');
  await viewer.page.keyboard.press('Escape');
  await frame.waitForSelector('#chooser', { state: 'hidden' });
  await session.becomes("document.querySelector('#file').files.length", 2);
  await ends(both);
});

test('downloads are listed, and saved on this computer', async () => {
  const both = await inControl('/workbench.html', { context: { acceptDownloads: true } });
  const { session, viewer } = both;
  const { frame, page } = viewer;
  await viewer.click(session, '#download');
  await viewer.isTold('report.csv is downloaded.');
  await frame.click('#downloads-button');
  await viewer.shows('.download-name', 'report.csv');
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    frame.click('.download button'),
  ]);
  assert.equal(download.suggestedFilename(), 'report.csv');
  const report = 'harbour,height\nSkerry Haven,3.9\nOld Quay,4.1\n';
  assert.equal(await readFile(await download.path(), 'utf8'), report);
  await page.keyboard.press('Escape');
  await frame.waitForSelector('#downloads', { state: 'hidden' });
  await ends(both);
});

test('tabs are opened, switched and closed, popups too', async () => {
  const both = await inControl('/workbench.html');
  const { session, viewer } = both;
  const { frame } = viewer;
  const titles = (...expected) =>
    eventually(async () =>
      assert.deepEqual(await frame.locator('.tab-title').allInnerTexts(), expected),
    );
  const active = (title) => viewer.shows('.is-active .tab-title', title);
  const pages = (count) =>
    eventually(async () => assert.equal(await session.run('context.pages().length'), `${count}`));
  await viewer.click(session, '#blank');
  await titles('Workbench', 'How a tide table is made');
  await active('How a tide table is made');
  // What acts, acts on the page that is shown.
  await session.becomes('location.pathname', '/article.html');
  await frame.click('.tab-title >> text=Workbench');
  await active('Workbench');
  await session.becomes('location.pathname', '/workbench.html');
  await viewer.click(session, '#popup');
  await pages(3);
  await titles('Workbench', 'How a tide table is made', 'How a tide table is made');
  await active('How a tide table is made');
  await frame.click('.is-active .tab-close');
  await pages(2);
  await frame.click('#new-tab');
  await pages(3);
  await eventually(async () => assert.equal(await frame.inputValue('#address'), ''));
  await frame.fill('#address', at('/about.html'));
  await frame.press('#address', 'Enter');
  await active('About the almanac');
  await titles('Workbench', 'How a tide table is made', 'About the almanac');
  // Code goes where the person does not, and is followed.
  await session.run('await context.pages()[1].bringToFront()');
  await active('How a tide table is made');
  await ends(both);
});

test('address, back, forward, reload and stop', async () => {
  const both = await inControl('/live.html');
  const { session, viewer } = both;
  const { frame, page } = viewer;
  const path = (expected) => session.becomes('location.pathname', expected);
  assert.equal(await frame.isDisabled('#back'), false);
  const bare = at('/article.html').replace('http://', '');
  await frame.fill('#address', bare);
  await frame.press('#address', 'Enter');
  await path('/article.html');
  await eventually(async () =>
    assert.equal(await frame.inputValue('#address'), at('/article.html')),
  );
  await frame.click('#back');
  await path('/live.html');
  await eventually(async () => assert.equal(await frame.isEnabled('#forward'), true));
  await frame.click('#forward');
  await path('/article.html');
  await eventually(async () => assert.equal(await frame.isDisabled('#forward'), true));
  await session.see('window.kept = 1');
  await frame.click('#reload');
  await session.becomes('window.kept', null);
  await frame.fill('#address', at('/slow?ms=30000'));
  await frame.press('#address', 'Enter');
  await frame.click('#reload[aria-label=Stop]');
  await frame.waitForSelector('#reload[aria-label=Reload]');
  await path('/article.html');
  // What was typed and not sent is taken back.
  await frame.fill('#address', 'nonsense');
  await page.keyboard.press('Escape');
  assert.equal(await frame.inputValue('#address'), at('/article.html'));
  await frame.fill('#address', 'https://nowhere.invalid/');
  await frame.press('#address', 'Enter');
  await viewer.isTold('ERR_');
  await frame.fill('#address', 'file:///etc/passwd');
  await frame.press('#address', 'Enter');
  await frame.locator('.note').first().waitFor();
  assert.doesNotMatch(await session.see('location.href'), /^file:/);
  await ends(both);
});

test('the page gets the size of the window when asked', async () => {
  const both = await inControl('/live.html', { width: 800, height: 600 });
  const { session, viewer } = both;
  await viewer.frame.click('#fit');
  const { width, height } = await viewer.frame.evaluate(() => {
    const { clientWidth, clientHeight } = document.querySelector('#frame');
    return { width: clientWidth, height: clientHeight };
  });
  await session.becomes('[innerWidth, innerHeight]', [width, height]);
  await eventually(async () => {
    const canvas = await viewer.frame.locator('#picture').boundingBox();
    assert.ok(Math.abs(canvas.width - width) < 1 && Math.abs(canvas.height - height) < 1);
  });
  await viewer.click(session, '#text');
  await viewer.page.keyboard.type('Petrel');
  await session.becomes("document.querySelector('#text').value", 'Petrel');
  await ends(both);
});

test('control is taken, waited for, and given back', async () => {
  const session = await Session.open('/live.html');
  const [ada, bob] = await Promise.all([
    Viewer.open(session.controlUrl, { width: 700, height: 500 }),
    Viewer.open(session.controlUrl, { width: 700, height: 500 }),
  ]);
  await Promise.all([ada.watches(), bob.watches()]);
  // Before that nothing arrives.
  await ada.click(session, '#text');
  await ada.page.keyboard.type('too early');
  await ada.isTold('Take control to click and type.');
  assert.deepEqual(await session.see('window.seen'), []);
  await ada.frame.click('#take');
  await ada.shows('#holder', 'You are in control');
  await bob.shows('#holder', 'Someone else is in control');
  assert.equal((await session.execute('1', { onHumanControl: 'fail' })).status, 409);
  const waiting = session.execute("await page.fill('#area', 'by code'); 2");
  await bob.frame.click('#take');
  await ada.shows('#holder', 'You are in control · 1 waiting');
  await ada.click(session, '#text');
  await ada.page.keyboard.type('by Ada');
  await session.becomes("document.querySelector('#text').value", 'by Ada');
  await ada.frame.click('#give');
  await bob.shows('#holder', 'You are in control');
  await ada.shows('#holder', 'Someone else is in control');
  assert.equal(await session.see("document.querySelector('#area').value"), '');
  // Control goes back with its connection.
  await bob.close();
  assert.equal((await waiting).reply.result, '2');
  assert.equal(await session.see("document.querySelector('#area').value"), 'by code');
  await ada.shows('#holder', 'Code is in control');
  await session.control('take');
  await ada.shows('#holder', 'Someone else is in control');
  await session.control('release');
  await ada.shows('#holder', 'Code is in control');
  await ada.close();
  await session.stop();
});

test('everything can be reached and left by the keyboard', async () => {
  const session = await Session.open('/live.html');
  const viewer = await Viewer.open(session.controlUrl);
  await viewer.watches();
  const { frame } = viewer;
  const { keyboard } = viewer.page;
  const names = () =>
    frame.evaluate(() => {
      const { id, className, textContent } = document.activeElement;
      return id || className || textContent;
    });
  await frame.focus('#take');
  await keyboard.press('Enter');
  await viewer.shows('#holder', 'You are in control');
  // The page has the keys, Tab too, until they are led back.
  await eventually(async () => assert.equal(await focused(viewer), 'keys'));
  assert.equal(await frame.isVisible('#keys-hint'), true);
  await keyboard.press('Tab');
  await eventually(async () => assert.equal((await session.seen('keydown')).at(-1)?.key, 'Tab'));
  assert.equal(await focused(viewer), 'keys');
  await keyboard.press('F6');
  assert.equal(await focused(viewer), 'address');
  assert.equal(
    (await session.seen('keydown')).some(({ key }) => key === 'F6'),
    false,
  );
  await keyboard.press('F6');
  assert.equal(await focused(viewer), 'keys');
  await keyboard.press('Control+Alt+Escape');
  assert.equal(await focused(viewer), 'address');
  const reached = new Set();
  for (let i = 0; i < 12; i += 1) {
    await keyboard.press('Shift+Tab');
    reached.add(await names());
  }
  for (const name of ['reload', 'give', 'new-tab', 'plain tab-close control-only', 'tab-title'])
    assert.ok(reached.has(name), `${name} is not among ${[...reached]}`);
  await frame.focus('#help-button');
  await keyboard.press('Enter');
  await frame.waitForSelector('#help', { state: 'visible' });
  await keyboard.press('Escape');
  await frame.waitForSelector('#help', { state: 'hidden' });
  assert.equal(await focused(viewer), 'help-button');
  // Everything that can be pressed says what it is.
  const unnamed = await frame.evaluate(() =>
    [...document.querySelectorAll('button, input, textarea, [role=listbox]')]
      .filter((element) => {
        const label = element.getAttribute('aria-label') ?? element.getAttribute('aria-labelledby');
        return !label && element.textContent.trim() === '';
      })
      .map(({ outerHTML }) => outerHTML),
  );
  assert.deepEqual(unnamed, []);
  await viewer.close();
  await session.stop();
});
