// @ts-check
/** Newline-delimited JSON frames on one stream socket (worker side). Knows no frame's meaning. */
import { Socket } from 'node:net';

/** A line longer than this ends the runner: the daemon never sends one. */
const LINE_LIMIT_BYTES = 64 * 1024 * 1024;

/**
 * @param {number} fd
 * @param {(frame: any) => void} onFrame
 * @param {() => void} onEnd called once, when the other side is gone
 * @returns {((frame: object) => Promise<void>) & {text: (text: string) => Promise<void>}} sends one
 *   frame, or a part of one as text; done when there is room for more
 */
export function openFrames(fd, onFrame, onEnd) {
  const socket = new Socket({ fd, readable: true, writable: true });
  /** @type {Buffer[]} */
  let parts = [];
  let size = 0;
  let ended = false;
  const end = () => {
    if (!ended) onEnd();
    ended = true;
  };
  socket.on('data', (chunk) => {
    let rest = chunk;
    for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10)) {
      const line = Buffer.concat([...parts, rest.subarray(0, at)]).toString();
      rest = rest.subarray(at + 1);
      parts = [];
      size = 0;
      onFrame(JSON.parse(line));
    }
    if (!rest.length) return;
    parts.push(rest);
    size += rest.length;
    if (size > LINE_LIMIT_BYTES) socket.destroy();
  });
  socket.on('error', end);
  socket.on('close', end);
  socket.on('end', end);
  const text = async (/** @type {string} */ part) => {
    if (!socket.write(part) && !socket.destroyed)
      await new Promise((resolve) => {
        const go = () => {
          socket.off('drain', go).off('close', go);
          resolve(undefined);
        };
        socket.on('drain', go).on('close', go);
      });
  };
  const send = (/** @type {object} */ frame) => text(`${JSON.stringify(frame)}\n`);
  return Object.assign(send, { text });
}
