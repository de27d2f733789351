// Watching: pictures, several people, lines that stall and break, links that do not let act.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Relay } from './relay.mjs';
import { eventually, Session } from './session.mjs';
import { Viewer } from './viewer.mjs';

/** Waits until a viewer has seen so many different pictures of the counter, each later than the last. */
async function seesPictures(viewer, count) {
  // Without the counter all is white there.
  await eventually(async () => assert.notEqual(await viewer.counter(), 0xffff));
  const numbers = [await viewer.counter()];
  await eventually(async () => {
    const number = await viewer.counter();
    assert.ok(number >= numbers.at(-1), `${number} after ${numbers.at(-1)}`);
    if (number > numbers.at(-1)) numbers.push(number);
    assert.ok(numbers.length > count, `${numbers.length} pictures`);
  });
}

test('an animation is seen as it goes, and a still page at once', async () => {
  const session = await Session.open('/article.html');
  const viewer = await Viewer.open(session.viewUrl);
  await viewer.watches();
  await viewer.shows('#holder', 'Code is in control');
  await viewer.shows('.is-active .tab-title', 'How a tide table is made');
  await session.run(`await page.goto(page.url().replace('article.html', 'live.html?animate'))`);
  await viewer.shows('.is-active .tab-title', 'Harbour office');
  await seesPictures(viewer, 30);
  await eventually(async () =>
    assert.match(await viewer.frame.textContent('#rate'), /^[1-9]\d* fps$/),
  );
  await viewer.close();
  await session.stop();
});

test('five people watch, and one whose line stalls holds up nobody', async () => {
  const session = await Session.open('/live.html?animate');
  const relay = await Relay.open(session.viewUrl);
  const slow = await Viewer.open(relay.url(session.viewUrl), { width: 400, height: 300 });
  await slow.watches();
  const others = await Promise.all(
    [1, 2, 3, 4].map(() => Viewer.open(session.viewUrl, { width: 400, height: 300 })),
  );
  await Promise.all(others.map((viewer) => viewer.watches()));
  await Promise.all([slow, ...others].map((viewer) => viewer.shows('#viewers', '5')));
  relay.stall();
  await Promise.all(others.map((viewer) => seesPictures(viewer, 10)));
  // Neither is the page held up.
  const before = await session.see('new Promise(requestAnimationFrame)');
  assert.ok((await session.see('new Promise(requestAnimationFrame)')) > before);
  relay.close();
  await Promise.all(others.map((viewer) => viewer.shows('#viewers', '4')));
  await Promise.all(others.map((viewer) => viewer.close()));
  await slow.context.close();
  await session.stop();
});

test('the link to watch lets nobody act', async () => {
  const session = await Session.open();
  const viewer = await Viewer.open(session.viewUrl);
  await viewer.watches();
  for (const control of ['#take', '#new-tab', '#back', '#reload', '#fit', '#help-button'])
    assert.equal(await viewer.frame.isVisible(control), false, control);
  assert.equal(await viewer.frame.isEditable('#address'), false);
  await viewer.click(session, '#text');
  await viewer.page.keyboard.type('not mine');
  const { x, y } = await viewer.point(session, '#notices');
  await viewer.page.mouse.move(x, y);
  await viewer.page.mouse.wheel(0, 200);
  // It is the daemon that refuses, whatever the page would do.
  const url = new URL(session.viewUrl);
  const refused = await viewer.frame.evaluate(
    ([address, token]) =>
      new Promise((done) => {
        const socket = new WebSocket(address);
        const input = { type: 'text', text: 'not mine' };
        socket.onopen = () => {
          socket.send(JSON.stringify({ type: 'hello', token, width: 9, height: 9, dpr: 1 }));
          socket.send(JSON.stringify(input));
        };
        socket.onclose = ({ code }) => done(code);
      }),
    [`ws://${url.host}${url.pathname}/socket`, url.hash.slice(1)],
  );
  assert.equal(refused, 1008);
  assert.deepEqual(await session.see('window.seen'), []);
  // Such a link sees all the same what the page asks.
  await session.run('page.evaluate(() => setTimeout(() => confirm("Leave the harbour?"))); 1');
  await viewer.shows('#ask-text', 'Leave the harbour?');
  assert.equal(await viewer.frame.isVisible('#ask-yes'), false);
  await viewer.close();
  await session.stop();
});

test('a link that is wrong or withdrawn says so', async () => {
  const session = await Session.open();
  const wrong = await Viewer.open(`${session.viewUrl.slice(0, -4)}AAAA`);
  await wrong.shows('#cover-title', 'This link does not open the session');
  const none = await Viewer.open(session.viewUrl.replace(/#.*/, '#'));
  await none.shows('#cover-title', 'This link does not open the session');
  const viewer = await Viewer.open(session.viewUrl);
  await viewer.watches();
  await session.renewLinks();
  await viewer.shows('#cover-title', 'This link does not open the session');
  assert.equal(await viewer.frame.isVisible('#again'), false);
  for (const each of [wrong, none, viewer]) await each.close();
  await session.stop();
});

test('a session that ends says so, by itself or by its owner', async () => {
  const [short, stopped] = await Promise.all([
    Session.open('/live.html', { ttl: 30 }),
    Session.open(),
  ]);
  const viewer = await Viewer.open(short.controlUrl);
  await viewer.takes();
  const other = await Viewer.open(stopped.viewUrl);
  await other.watches();
  await stopped.stop();
  await other.shows('#cover-title', 'The session has ended');
  await viewer.isTold('The session ends in less than a minute.');
  await eventually(async () => assert.match(await viewer.frame.textContent('#left'), /^\d+ s$/));
  await viewer.frame.waitForFunction(
    () => document.querySelector('#cover-title').textContent === 'The session has ended',
    { timeout: 60_000 },
  );
  await viewer.shows('#link', 'Ended');
  assert.equal(await viewer.frame.isDisabled('#new-tab'), true);
  await viewer.close();
  await other.close();
});

test('a broken line is found again, and what was open is shown again', async () => {
  const session = await Session.open('/workbench.html');
  const relay = await Relay.open(session.controlUrl);
  const viewer = await Viewer.open(relay.url(session.controlUrl));
  await viewer.takes();
  relay.cut();
  await viewer.shows('#cover-title', 'No connection to the session');
  // Control went back with the connection.
  await session.run("page.evaluate(() => setTimeout(() => alert('The tide is turning'))); 1");
  relay.mend();
  await viewer.shows('#link', 'Live');
  await viewer.shows('#ask-text', 'The tide is turning');
  await viewer.frame.click('#take');
  await viewer.frame.click('#ask-yes');
  await viewer.frame.waitForSelector('#ask', { state: 'hidden' });
  await session.becomes('document.title', 'Workbench');
  relay.close();
  // The browser itself tells of connections that fail.
  viewer.complaints = viewer.complaints.filter((text) => !/WebSocket connection to/.test(text));
  await viewer.close();
  await session.stop();
});

test('a line that is dead, and does not say so, is given up for another', async () => {
  const session = await Session.open();
  const relay = await Relay.open(session.viewUrl);
  const viewer = await Viewer.open(relay.url(session.viewUrl), { width: 600, height: 450 });
  await viewer.watches();
  await viewer.shows('#link', 'Live');
  // Another may be there within a few milliseconds.
  await viewer.frame.evaluate(() => {
    const link = document.querySelector('#link');
    window.phases = [];
    new MutationObserver(() => window.phases.push(link.dataset.phase)).observe(link, {
      attributes: true,
    });
  });
  relay.stall();
  const isLost = () => window.phases.some((phase) => phase !== 'open');
  await viewer.frame.waitForFunction(isLost, null, { timeout: 90_000 });
  await viewer.shows('#link', 'Live');
  await session.run(`await page.goto(page.url().replace('live.html', 'about.html'))`);
  await viewer.shows('.is-active .tab-title', 'About the almanac');
  await viewer.close();
  relay.close();
  await session.stop();
});
