// Mouse, wheel, touch and keyboard: each asserts what the session's page saw.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, Session } from './session.mjs';
import { Viewer } from './viewer.mjs';

/** A session on the page that notes what it sees, and a viewer in control. */
async function inControl(options, path = '/live.html') {
  const session = await Session.open(path);
  const viewer = await Viewer.open(session.controlUrl, options);
  await viewer.takes();
  return { session, viewer };
}

async function ends({ session, viewer }) {
  await viewer.close();
  await session.stop();
}

/** Clicks into the field, and types. */
async function types({ session, viewer }, selector, text) {
  await viewer.click(session, selector);
  await viewer.page.keyboard.type(text);
}

test('someone logs in', async () => {
  const both = await inControl({}, '/login.html');
  const { session, viewer } = both;
  await types(both, 'input[name=email]', 'ada@example.com');
  await viewer.page.keyboard.press('Tab');
  await viewer.page.keyboard.type('Sésame 1!');
  await session.becomes("document.querySelector('input[name=password]').value", 'Sésame 1!');
  await viewer.click(session, 'button[type=submit]');
  await session.becomes(
    "document.querySelector('#greeting')?.textContent",
    'Welcome, ada@example.com',
  );
  await viewer.shows('.is-active .tab-title', 'Your account');
  await ends(both);
});

// Another ratio of pixels (to a page a browser's zoom is one too), a narrow frame, a scaled one.
for (const [name, options] of Object.entries({
  'one pixel for one': {},
  'two pixels for one': { context: { deviceScaleFactor: 2 } },
  'three pixels for one, narrow': { width: 380, height: 620, context: { deviceScaleFactor: 3 } },
  'low and wide': { width: 900, height: 320 },
  scaled: { style: 'transform: scale(0.6); transform-origin: 0 0' },
  zoomed: { width: 700, height: 500, context: { deviceScaleFactor: 1.25 } },
}))
  test(`clicks arrive where they are meant: ${name}`, async () => {
    const both = await inControl(options);
    const { session, viewer } = both;
    const canvas = await viewer.frame.locator('#picture').boundingBox();
    // What a pixel of this screen is in the session's page, whose events have whole ones.
    const ratio = options.context?.deviceScaleFactor ?? 1;
    const grain = 1280 / canvas.width / ratio + 1;
    for (const [x, y] of [
      [3, 3],
      [640, 360],
      [1276, 716],
      [333.5, 99.25],
    ]) {
      const before = (await session.seen('mousedown')).length;
      const point = await viewer.pointAt(session, x, y);
      await viewer.page.mouse.click(point.x, point.y);
      const [click] = await eventually(async () => {
        const seen = (await session.seen('mousedown')).slice(before);
        assert.equal(seen.length, 1);
        return seen;
      });
      const off = Math.hypot(click.clientX - x, click.clientY - y);
      assert.ok(off <= grain, `${x},${y} came as ${click.clientX},${click.clientY}`);
      assert.ok(click.trusted);
    }
    await ends(both);
  });

test('buttons, clicks in a row, and modifiers', async () => {
  const both = await inControl();
  const { session, viewer } = both;
  await viewer.click(session, '#pad', { clickCount: 2 });
  await viewer.click(session, '#pad', { button: 'middle' });
  await viewer.click(session, '#pad', { button: 'right' });
  await viewer.page.keyboard.down('Shift');
  await viewer.click(session, '#pad');
  await viewer.page.keyboard.up('Shift');
  await eventually(async () => {
    const seen = await session.seen('mousedown', 'dblclick', 'contextmenu');
    assert.deepEqual(
      seen.map(({ type, button, buttons, detail, shiftKey }) => [
        type,
        button,
        buttons,
        detail,
        shiftKey,
      ]),
      [
        ['mousedown', 0, 1, 1, false],
        ['mousedown', 0, 1, 2, false],
        ['dblclick', 0, 0, 2, false],
        ['mousedown', 1, 4, 1, false],
        ['mousedown', 2, 2, 1, false],
        ['contextmenu', 2, 2, 0, false],
        ['mousedown', 0, 1, 1, true],
      ],
    );
  });
  await ends(both);
});

test('the wheel scrolls what is under it', async () => {
  const both = await inControl();
  const { session, viewer } = both;
  const { x, y } = await viewer.point(session, '#notices');
  await viewer.page.mouse.move(x, y);
  await viewer.page.mouse.wheel(0, 150);
  await viewer.page.mouse.wheel(0, 150);
  await session.becomes("document.querySelector('#notices').scrollTop", 300);
  const turned = await session.seen('wheel');
  assert.equal(
    turned.reduce((sum, { deltaY }) => sum + deltaY, 0),
    300,
  );
  await ends(both);
});

test('a line is drawn, and a thing dragged and dropped', async () => {
  const both = await inControl();
  const { session, viewer } = both;
  const { mouse } = viewer.page;
  const from = await viewer.point(session, '#pad', { x: 0.2 });
  const to = await viewer.point(session, '#pad', { x: 0.8 });
  await mouse.move(from.x, from.y);
  await mouse.down();
  await mouse.move(to.x, to.y, { steps: 8 });
  const pad = await session.box('#pad');
  await eventually(async () => {
    const drawn = await session.seen('pointermove');
    const most = Math.max(...drawn.map(({ clientX }) => clientX));
    assert.ok(Math.abs(most - (pad.x + 0.8 * pad.width)) < 3, `drawn to ${most}`);
    assert.ok(drawn.every(({ buttons, pointerType }) => buttons === 1 && pointerType === 'mouse'));
  });
  // The end may lie outside of the picture, and of the frame.
  await mouse.move(5, 5, { steps: 3 });
  await mouse.up();
  await eventually(async () => {
    const [up, ...more] = await session.seen('mouseup');
    assert.deepEqual([up?.clientX, up?.clientY, more.length], [0, 0, 0]);
  });

  const sailor = await viewer.point(session, '#sailor');
  const boat = await viewer.point(session, '#boat');
  await mouse.move(sailor.x, sailor.y);
  await mouse.down();
  await mouse.move(sailor.x + 12, sailor.y + 3, { steps: 4 });
  await mouse.move(boat.x, boat.y, { steps: 12 });
  await mouse.up();
  await session.becomes("document.querySelector('#boat').textContent", 'Ada');
  await ends(both);
});

test('fingers', async () => {
  const both = await inControl({ width: 390, height: 700, context: { hasTouch: true } });
  const { session, viewer } = both;
  const middle = await viewer.point(session, '#pad');
  await viewer.page.touchscreen.tap(middle.x, middle.y);
  const pad = await session.box('#pad');
  const [tap] = await eventually(async () => {
    const seen = await session.seen('touchstart', 'touchend', 'click');
    assert.deepEqual(
      seen.map(({ type }) => type),
      ['touchstart', 'touchend', 'click'],
    );
    return seen;
  });
  const [[x, y]] = tap.points;
  assert.ok(Math.abs(x - (pad.x + pad.width / 2)) < 8, `${x}`);
  assert.ok(Math.abs(y - (pad.y + pad.height / 2)) < 8, `${y}`);
  // A tap opens no keyboard on the glass: nothing has the focus that would.
  assert.notEqual(await viewer.frame.evaluate(() => document.activeElement?.id), 'keys');

  const touch = await viewer.devtools();
  const send = (type, ...points) =>
    touch.send('Input.dispatchTouchEvent', {
      type,
      touchPoints: points.map(([dx, dy], id) => ({ x: middle.x + dx, y: middle.y + dy, id })),
    });
  await send('touchStart', [-20, 0]);
  await send('touchStart', [-20, 0], [20, 0]);
  await send('touchMove', [-30, 0], [30, 0]);
  await send('touchMove', [-30, 0]); // as the protocol tells that the other one is lifted
  await send('touchEnd');
  await eventually(async () => {
    const seen = await session.seen('touchstart', 'touchmove', 'touchend');
    const pinch = seen.slice(2).map(({ type, points }) => `${type} ${points.length}`);
    // Each finger's move may come by itself.
    assert.deepEqual(
      [...new Set(pinch)],
      ['touchstart 1', 'touchstart 2', 'touchmove 2', 'touchend 1', 'touchend 0'],
    );
    const [left, right] = seen.findLast(({ points }) => points.length === 2).points;
    assert.ok(right[0] - left[0] > 100, `${left} ${right}`);
  });
  // To type, there is a button.
  await viewer.frame.tap('#keyboard');
  assert.equal(await viewer.frame.evaluate(() => document.activeElement.id), 'keys');
  await ends(both);
});

test('keys and shortcuts', async () => {
  const both = await inControl();
  const { session, viewer } = both;
  const { keyboard } = viewer.page;
  await types(both, '#text', 'Pétrel 東 😀x');
  await keyboard.press('Backspace');
  await session.becomes("document.querySelector('#text').value", 'Pétrel 東 😀');
  await keyboard.press('Shift+Home');
  await keyboard.type('Kittiwake');
  await keyboard.press('Control+a');
  await keyboard.press('ArrowLeft');
  await keyboard.type('The ');
  await session.becomes("document.querySelector('#text').value", 'The Kittiwake');
  await keyboard.press('Tab');
  await keyboard.type('one');
  await keyboard.press('Enter');
  await keyboard.type('two');
  await session.becomes("document.querySelector('#area').value", 'one\ntwo');
  await keyboard.press('Control+z');
  await session.becomes("document.querySelector('#area').value !== 'one\\ntwo'", true);
  const keys = await session.seen('keydown');
  const told = (wanted) => {
    const { code, location, ctrlKey, shiftKey } = keys.findLast(({ key }) => key === wanted);
    return [code, location, ctrlKey, shiftKey];
  };
  assert.deepEqual(told('Home'), ['Home', 0, false, true]);
  assert.deepEqual(told('a'), ['KeyA', 0, true, false]);
  assert.deepEqual(told('z'), ['KeyZ', 0, true, false]);
  // What is down when the focus goes comes up.
  await keyboard.down('Shift');
  await viewer.page.focus('#own');
  await eventually(async () => assert.equal((await session.seen('keyup')).at(-1).key, 'Shift'));
  await keyboard.up('Shift');
  await ends(both);
});

test('an input method', async () => {
  const both = await inControl();
  const { session, viewer } = both;
  await viewer.click(session, '#text');
  const input = await viewer.devtools();
  const compose = (text, at = text.length) =>
    input.send('Input.imeSetComposition', { text, selectionStart: at, selectionEnd: at });
  await compose('に');
  // Of two in quick succession the page may be told the last alone.
  await session.becomes("document.querySelector('#text').value", 'に');
  await compose('にほん');
  await session.becomes("document.querySelector('#text').value", 'にほん');
  await input.send('Input.insertText', { text: '日本' });
  await session.becomes("document.querySelector('#text').value", '日本');
  const seen = await session.seen('compositionstart', 'compositionupdate', 'compositionend');
  assert.deepEqual(
    seen.map(({ type, data }) => [type, data]),
    [
      ['compositionstart', ''],
      ['compositionupdate', 'に'],
      ['compositionupdate', 'にほん'],
      ['compositionupdate', '日本'],
      ['compositionend', '日本'],
    ],
  );
  // Given up, it leaves nothing.
  await compose('ご');
  await session.becomes("document.querySelector('#text').value", '日本ご');
  await compose('');
  await session.becomes("document.querySelector('#text').value", '日本');
  await viewer.page.keyboard.type('!');
  await session.becomes("document.querySelector('#text').value", '日本!');
  await ends(both);
});

test('dead keys', async () => {
  const both = await inControl();
  const { session, viewer } = both;
  await viewer.click(session, '#text');
  const input = await viewer.devtools();
  const key = async (name, code, text) => {
    const type = text ? 'keyDown' : 'rawKeyDown';
    await input.send('Input.dispatchKeyEvent', { type, key: name, code, text });
    await input.send('Input.dispatchKeyEvent', { type: 'keyUp', key: name, code });
  };
  // As Windows tells it: the dead key, then the accented letter.
  await key('Dead', 'Equal');
  await key('á', 'KeyA', 'á');
  await key('x', 'KeyX', 'x');
  await session.becomes("document.querySelector('#text').value", 'áx');
  // As macOS does: by a composition.
  await key('Dead', 'BracketLeft');
  await input.send('Input.imeSetComposition', { text: '^', selectionStart: 1, selectionEnd: 1 });
  await input.send('Input.insertText', { text: 'ê' });
  await key('y', 'KeyY', 'y');
  await session.becomes("document.querySelector('#text').value", 'áxêy');
  await ends(both);
});

test('copy and paste between the page and this computer', async () => {
  const both = await inControl({ context: { permissions: ['clipboard-read'] } });
  const { session, viewer } = both;
  const { page } = viewer;
  const { keyboard } = page;
  await page.fill('#own', 'Ærø\nand 東京');
  await page.press('#own', 'Control+a');
  await page.press('#own', 'Control+c');
  await viewer.click(session, '#area');
  await keyboard.press('Control+v');
  await session.becomes("document.querySelector('#area').value", 'Ærø\nand 東京');
  await types(both, '#text', 'Petrel');
  await keyboard.press('Control+a');
  await keyboard.press('Control+c');
  const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
  await eventually(async () => assert.equal(await clipboard(), 'Petrel'));
  // A cut takes it away there.
  await keyboard.type('Kittiwake');
  await keyboard.press('Shift+Home');
  const field = "document.querySelector('#text')";
  await session.becomes(`[${field}.selectionStart, ${field}.selectionEnd]`, [0, 9]);
  await keyboard.press('Control+x');
  await session.becomes("document.querySelector('#text').value", '');
  await eventually(async () => assert.equal(await clipboard(), 'Kittiwake'));
  await ends(both);
});
