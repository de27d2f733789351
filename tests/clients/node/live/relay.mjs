// A line between a viewer and the daemon that can be cut, or carry nothing.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { after } from 'node:test';

export class Relay {
  #pairs = new Set();
  #isCut = false;
  #server = createServer((near) => this.#join(near));

  /** To the host and port of a URL. @param {string} url */
  constructor(url) {
    this.target = new URL(url);
  }

  static async open(url) {
    const relay = new Relay(url);
    // Or a test that fails would keep the process.
    after(() => relay.close());
    relay.#server.listen(0, '127.0.0.1');
    await once(relay.#server, 'listening');
    return relay;
  }

  /** The URL, by this line. @param {string} url */
  url(url) {
    const by = new URL(url);
    by.port = String(this.#server.address().port);
    return by.href;
  }

  /** Nothing goes any further, in either direction; nobody is told. */
  stall() {
    for (const pair of this.#pairs) for (const socket of pair) socket.unpipe().pause();
  }

  /** Connections end, and new ones do at once. */
  cut() {
    this.#isCut = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  mend() {
    this.#isCut = false;
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #join(near) {
    if (this.#isCut) {
      near.destroy();
      return;
    }
    const far = connect(Number(this.target.port), this.target.hostname);
    const pair = [near, far];
    this.#pairs.add(pair);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ]) {
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        to.destroy();
        this.#pairs.delete(pair);
      });
    }
  }
}
