// @ts-check
/**
 * The WebSocket to the session: says hello, hands on what arrives, comes back when it is lost. It
 * knows no message but the welcome.
 *
 *   connecting ---> open ---> waiting (lost; tries again after a delay) ---> connecting
 *        '-----------'-----------'--> over (ended, refused, or tried too often)
 */

/** Milliseconds before the first new attempt; doubled for each further one, up to the longest. */
const FIRST_DELAY = 500;
const LONGEST_DELAY = 8000;
/** Attempts in a row, about a minute. Then the person decides. */
const ATTEMPT_LIMIT = 10;
/** Milliseconds until a welcome must have come. */
const PATIENCE = 15_000;
/** Milliseconds a connection must last to count as good: one that fails at once is not tried for ever. */
const STEADY = 5000;
/** Milliseconds without a word, after which the connection is lost: there is a ping every 15 s. */
const SILENCE = 40_000;
/** Milliseconds between two looks at that. */
const WATCH = 5000;
/** Bytes not yet sent, above which moves of the mouse wait. */
const BACKLOG = 32 * 1024;
/** Close codes after which another attempt would end the same way: ended, refused. */
const FINAL = new Set([1000, 1008]);

/**
 * @typedef {{name: 'connecting' | 'open' | 'waiting' | 'over', attempt: number, code: number, reason: string}} Phase
 * @typedef {{phase: (phase: Phase) => void, message: (message: any) => void, picture: (bytes: ArrayBuffer) => void}} Tell
 */

export class Connection {
  #address;
  #hello;
  #tell;
  /** @type {WebSocket | undefined} */
  #socket;
  #attempt = 0;
  /** When the welcome came; 0 before. */
  #welcomed = 0;
  #timer = 0;
  #isWaiting = false;
  /** When anything came last. */
  #heard = 0;
  /** Of the last close, so that the person is told why it tries again. */
  #code = 0;

  /** @param {URL} address @param {() => object} hello the first message @param {Tell} tell */
  constructor(address, hello, tell) {
    this.#address = address;
    this.#hello = hello;
    this.#tell = tell;
    // The network is back: no need to wait for the delay's end.
    addEventListener('online', () => this.#isWaiting && this.#open());
    setInterval(() => this.#look(), WATCH);
  }

  get isOpen() {
    return this.#welcomed > 0 && this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Whether what is to be sent piles up. */
  get isBehind() {
    return (this.#socket?.bufferedAmount ?? 0) > BACKLOG;
  }

  /** Connects, with all attempts left. */
  start() {
    this.#attempt = 0;
    this.#code = 0;
    this.#open();
  }

  /** Nothing happens unless the connection is open. @param {object} message */
  send(message) {
    if (this.isOpen) this.#socket?.send(JSON.stringify(message, wellFormed));
  }

  #open() {
    this.#enter('connecting', this.#code);
    const socket = new WebSocket(this.#address);
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => socket.send(JSON.stringify(this.#hello()));
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#timer = setTimeout(() => this.#drop(), PATIENCE);
  }

  /** A line that went dead says nothing, not even that. */
  #look() {
    if (this.isOpen && performance.now() - this.#heard > SILENCE) this.#drop();
  }

  /** Not to be waited for: the answer to a close would not come either. */
  #drop() {
    const socket = this.#socket;
    if (!socket) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
    this.#closed(0, '');
  }

  /** @param {string | ArrayBuffer} data */
  #received(data) {
    this.#heard = performance.now();
    if (typeof data !== 'string') {
      this.#tell.picture(data);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === 'welcome') {
      this.#welcomed = performance.now();
      this.#enter('open');
    }
    this.#tell.message(message);
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    if (this.#welcomed && performance.now() - this.#welcomed > STEADY) this.#attempt = 0;
    this.#welcomed = 0;
    this.#code = code;
    if (FINAL.has(code) || this.#attempt >= ATTEMPT_LIMIT) {
      this.#enter('over', code, reason);
      return;
    }
    const delay = Math.min(FIRST_DELAY * 2 ** this.#attempt, LONGEST_DELAY);
    this.#attempt += 1;
    this.#enter('waiting', code, reason);
    // Spread, so that all viewers of a restarted daemon do not come at once.
    this.#timer = setTimeout(() => this.#open(), delay * (0.75 + Math.random() / 2));
  }

  /** @param {Phase['name']} name @param {number} code @param {string} reason */
  #enter(name, code = 0, reason = '') {
    clearTimeout(this.#timer);
    this.#isWaiting = name === 'waiting';
    this.#tell.phase({ name, attempt: this.#attempt, code, reason });
  }
}

/** Half a surrogate pair is no JSON to some parsers. @param {string} _key @param {any} value */
function wellFormed(_key, value) {
  return typeof value === 'string' ? (value.toWellFormed?.() ?? value) : value;
}
