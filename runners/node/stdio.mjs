// @ts-check
/**
 * process.stdout and process.stderr as streams that have written when `write` returns, whatever the
 * fds are: what an execution wrote is in the pipe before its `finished` frame is sent.
 */
import { writeSync } from 'node:fs';
import { Writable } from 'node:stream';

const pause = new Int32Array(new SharedArrayBuffer(4));
const { wait } = Atomics;

/**
 * Writes all of it. A child process that shares the pipe may have made it non-blocking: then this
 * waits for the reader in short sleeps, as Node has no poll(2).
 * @param {number} fd @param {Uint8Array} bytes
 */
export function writeAll(fd, bytes) {
  let delay = 1;
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at, bytes.length - at);
      delay = 1;
    } catch (error) {
      const { code } = /** @type {NodeJS.ErrnoException} */ (error);
      if (code === 'EINTR') continue;
      if (code !== 'EAGAIN') throw error;
      wait(pause, 0, 0, delay);
      delay = delay < 16 ? delay * 2 : 16;
    }
  }
}

class SyncOutput extends Writable {
  /** @param {1 | 2} fd */
  constructor(fd) {
    super({ decodeStrings: true });
    Object.assign(this, { fd, _type: 'pipe', _isStdio: true });
  }

  /**
   * @param {Uint8Array} chunk @param {string} _encoding @param {(error?: Error | null) => void} done
   */
  _write(chunk, _encoding, done) {
    try {
      writeAll(/** @type {any} */ (this).fd, chunk);
      done();
    } catch (error) {
      const { code } = /** @type {NodeJS.ErrnoException} */ (error);
      // Closed by the code itself or by the reader: there is nobody to tell.
      if (code === 'EBADF' || code === 'EPIPE') done();
      else done(/** @type {Error} */ (error));
    }
  }

  /** The fds stay open, as in Node. @param {Error | null} error @param {(error?: Error | null) => void} done */
  _destroy(error, done) {
    done(error);
  }
}

/** Replaces both streams; must run before anything writes. */
export function installOutput() {
  for (const [name, fd] of /** @type {const} */ ([
    ['stdout', 1],
    ['stderr', 2],
  ])) {
    const value = new SyncOutput(fd);
    Object.defineProperty(process, name, {
      get: () => value,
      enumerable: true,
      configurable: true,
    });
  }
}
