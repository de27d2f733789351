// A session as its owner has it: what its page saw is asked for by the API, never by the live view.

import assert from 'node:assert/strict';

const { PAGEBOX_URL, SITE_URL } = process.env;
/** Milliseconds within which something must have come true. */
const PATIENCE = 30_000;

/** A page of the fixture site, as the session's browser finds it. */
export const at = (path) => `${SITE_URL}${path}`;

async function api(method, path, body) {
  const response = await fetch(`${PAGEBOX_URL}${path}`, { method, body: JSON.stringify(body) });
  return { status: response.status, reply: await response.json() };
}

export class Session {
  /** @param {object} reply of the API */
  constructor(reply) {
    this.id = reply.id;
    this.viewUrl = reply.liveViewUrl;
    this.controlUrl = reply.interactiveLiveViewUrl;
  }

  /** A new one on a page of the site. */
  static async open(path = '/live.html', options = {}) {
    const { status, reply } = await api('POST', '/v2/browser', options);
    assert.equal(status, 200, reply.error);
    const session = new Session(reply);
    await session.run(`await page.goto(${JSON.stringify(at(path))})`);
    return session;
  }

  /** Asks to run node code; the answer as it is. */
  execute(code, options = {}) {
    return api('POST', `/v2/browser/${this.id}/execute`, { code, ...options });
  }

  /** What node code results in, whoever is in control. */
  async run(code) {
    const { status, reply } = await this.execute(code, { onHumanControl: 'ignore' });
    assert.equal(status, 200, reply.error);
    assert.equal(reply.exitCode, 0, reply.error);
    return reply.result;
  }

  /** The value of an expression in the page. */
  async see(expression) {
    const code = `JSON.stringify(await page.evaluate(${JSON.stringify(expression)}) ?? null)`;
    return JSON.parse(await this.run(code));
  }

  /** What the page saw of these kinds, see live.js. */
  async seen(...types) {
    const seen = await this.see('window.seen');
    return seen.filter(({ type }) => types.includes(type));
  }

  /** Where an element is, in the page's CSS pixels. */
  box(selector) {
    return this.see(
      `(() => { const { x, y, width, height } = document.querySelector(${JSON.stringify(selector)}).getBoundingClientRect(); return { x, y, width, height } })()`,
    );
  }

  /** Waits until an expression in the page has this value. */
  becomes(expression, expected) {
    return eventually(async () => assert.deepEqual(await this.see(expression), expected));
  }

  /** Takes control for a caller of the API, or gives it back. */
  async control(action) {
    const { status, reply } = await api('POST', `/v2/browser/${this.id}/control`, { action });
    assert.equal(status, 200, reply.error);
  }

  /** Withdraws the links, and has others from then on. */
  async renewLinks() {
    const { status, reply } = await api('POST', `/v2/browser/${this.id}/live-view`);
    assert.equal(status, 200, reply.error);
    this.viewUrl = reply.liveViewUrl;
    this.controlUrl = reply.interactiveLiveViewUrl;
  }

  async stop() {
    const { status, reply } = await api('DELETE', `/v2/browser/${this.id}`);
    assert.equal(status, 200, reply.error);
  }
}

/** Tries until it does not throw; the last failure when that takes too long. */
export async function eventually(attempt, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
    await new Promise((go) => setTimeout(go, 50));
  }
}
