// @ts-check
/**
 * `pagebox.handoff(reason)`: asks for a person and waits until one is done (main thread). Spoken to the
 * daemon at the place the browser is at, over a bare socket: what the code does to `fetch` or
 * `http` does not matter.
 */
import { connect } from 'node:net';

const { URL, Error: Failure, Promise: Future, Buffer } = globalThis;
const { freeze } = Object;
/** Longer answers are no answers. */
const ANSWER_LIMIT = 8192;
const TIMED_OUT = 408;

/** @param {string} message @param {number} [status] */
function failure(message, status) {
  const error = new Failure(`handoff: ${message}`);
  if (status === TIMED_OUT) error.name = 'TimeoutError';
  return error;
}

/**
 * @param {string | undefined} cdpUrl where the browser is
 * @returns what the code has as `pagebox`
 */
export function pageboxAt(cdpUrl) {
  return freeze({
    /**
     * Waits until a person has taken control of the browser and given it back; the time does not
     * count for the execution's timeout. Rejects with a TimeoutError when nobody was done in time.
     * @param {string} reason what for; people see it in the live view
     * @param {{timeout?: number}} [options] in seconds, 300 unless told, at most 3600
     * @returns {Promise<void>}
     */
    handoff(reason, { timeout = 300 } = {}) {
      if (!cdpUrl) return Future.reject(failure('there is no browser to hand over'));
      const { hostname, port, host, pathname } = new URL(cdpUrl);
      const token = pathname.slice(pathname.lastIndexOf('/') + 1);
      const body = Buffer.from(`${reason ?? ''}`);
      const head = [
        `POST /handoff/${token}?timeout=${Number(timeout)} HTTP/1.1`,
        `host: ${host}`,
        `content-length: ${body.length}`,
        'connection: close',
        '\r\n',
      ];
      return new Future((resolve, reject) => {
        const socket = connect(Number(port), hostname);
        let answer = '';
        socket.setEncoding('utf8');
        socket.on('connect', () =>
          socket.write(Buffer.concat([Buffer.from(head.join('\r\n')), body])),
        );
        socket.on('data', (part) => {
          if (answer.length < ANSWER_LIMIT) answer += part;
        });
        socket.on('error', (error) => reject(failure(error.message)));
        socket.on('close', () => {
          const status = Number(answer.split(' ', 2)[1]);
          if (status === 200) resolve(undefined);
          else reject(failure(answer.split('\r\n\r\n')[1] || 'the browser has ended', status));
        });
      });
    },
  });
}
