// A person's browser with the live view in a frame of another site's page, as products embed it.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after } from 'node:test';
import { chromium } from 'playwright-core';
import { eventually } from './session.mjs';

const CHROMIUM = '/usr/bin/chromium-headless-shell';

/** The page that embeds: `?width&height&style` of the frame, whose URL it gets by setting it. */
const embedder = createServer((request, response) => {
  const { searchParams } = new URL(request.url, 'http://localhost');
  const size = `width:${searchParams.get('width')}px;height:${searchParams.get('height')}px`;
  response.setHeader('Content-Type', 'text/html; charset=utf-8');
  response.end(`<!doctype html><title>Product</title><link rel="icon" href="data:,">
    <style>body { margin: 0; padding: 20px } iframe { border: 0; ${size}; ${searchParams.get('style') ?? ''} }</style>
    <textarea id="own">of this computer</textarea><br>
    <iframe allow="clipboard-read; clipboard-write"></iframe>`);
});
await new Promise((done) => embedder.listen(0, '127.0.0.1', done));
// By another name than the daemon's address: another site.
const EMBEDDER = `http://localhost:${embedder.address().port}/`;

const browser = await chromium.launch({ executablePath: CHROMIUM });
after(async () => {
  await browser.close();
  embedder.close();
});

export class Viewer {
  /** What the browser complained of: violations of the policy, errors of scripts. @type {string[]} */
  complaints = [];

  /**
   * Opens the live view in a frame.
   * @param {string} url
   * @param {{width?: number, height?: number, style?: string, context?: object}} options size and style
   *   of the frame, options of Playwright's context
   */
  static async open(url, { width = 1200, height = 800, style = '', context = {} } = {}) {
    const viewer = new Viewer();
    const viewport = { width: Math.max(width + 40, 320), height: height + 120 };
    viewer.context = await browser.newContext({ viewport, ...context });
    viewer.page = await viewer.context.newPage();
    viewer.page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) viewer.complaints.push(message.text());
    });
    viewer.page.on('pageerror', (error) => viewer.complaints.push(String(error)));
    await viewer.page.goto(`${EMBEDDER}?${new URLSearchParams({ width, height, style })}`);
    await viewer.page.$eval('iframe', (frame, src) => Object.assign(frame, { src }), url);
    const element = await viewer.page.$('iframe');
    viewer.frame = await eventually(async () => {
      const frame = await element.contentFrame();
      assert.ok(frame?.url().includes('/live/'));
      return frame;
    });
    return viewer;
  }

  /** Waits for the first picture. */
  async watches() {
    await this.frame.waitForSelector('#link[data-phase="open"]', { state: 'attached' });
    await this.frame.waitForFunction(() => document.querySelector('#picture').width > 1);
    return this;
  }

  /** Takes control from code. */
  async takes() {
    await this.watches();
    await this.frame.click('#take');
    await this.shows('#holder', 'You are in control');
    return this;
  }

  /** Waits until a part has this text. */
  shows(selector, text) {
    return eventually(async () => assert.equal(await this.frame.textContent(selector), text));
  }

  /** Waits until a note says this, and closes it. */
  async isTold(text) {
    const note = this.frame.locator('.note', { hasText: text });
    await note.waitFor();
    await note.getByRole('button', { name: 'Close' }).click();
  }

  /** The point of this browser's page at which the middle of an element of the session's page is. */
  async point(session, selector, { x: right = 0.5, y: down = 0.5 } = {}) {
    const { x, y, width, height } = await session.box(selector);
    return this.pointAt(session, x + width * right, y + height * down);
  }

  /** The same of a point in the session's page. */
  async pointAt(session, x, y) {
    // Of a page that is not shown yet there is nothing to act on.
    await this.frame.waitForSelector('#picture', { state: 'visible' });
    const canvas = await this.frame.locator('#picture').boundingBox();
    const size = await session.see('({ width: innerWidth, height: innerHeight })');
    return {
      x: canvas.x + (x / size.width) * canvas.width,
      y: canvas.y + (y / size.height) * canvas.height,
    };
  }

  /** Clicks on an element of the session's page, in the picture. */
  async click(session, selector, options) {
    const { x, y } = await this.point(session, selector, options?.place);
    await this.page.mouse.click(x, y, options);
  }

  /** The counter that the picture shows, see live.js; the page's size is the usual one. */
  counter() {
    return this.frame.evaluate(() => {
      const picture = document.querySelector('#picture');
      const scale = picture.width / 1280;
      const line = [picture.width - 256 * scale, picture.height - 16 * scale, 256 * scale, 1];
      const copy = new OffscreenCanvas(16, 1).getContext('2d', { willReadFrequently: true });
      copy.imageSmoothingEnabled = false;
      copy.drawImage(picture, ...line, 0, 0, 16, 1);
      const { data } = copy.getImageData(0, 0, 16, 1);
      let number = 0;
      for (let bit = 0; bit < 16; bit += 1) number = number * 2 + (data[bit * 4] > 127 ? 1 : 0);
      return number;
    });
  }

  /** Commands of the devtools protocol to this browser. */
  devtools() {
    return this.context.newCDPSession(this.page);
  }

  /** Nothing was wrong with the page all the time. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.complaints, []);
  }
}
