// @ts-check
/**
 * The text of a result or an error (main thread, on live objects). Never throws, always bounded.
 *
 * Strings as they are; a Buffer or Uint8Array as base64 (what a screenshot is wanted as); undefined
 * is no result; else JSON. What JSON would lose (BigInt, function, symbol, NaN, Map, Set, RegExp,
 * Error, promise, Playwright objects, cycles) makes the whole result `util.inspect` text.
 */
import { inspect, types } from 'node:util';

// User code may change any of these later.
const { stringify } = JSON;
const { isArray } = Array;
const finite = Number.isFinite;
const smaller = Math.min;
const { getPrototypeOf, defineProperty } = Object;
const isView = ArrayBuffer.isView;
const BufferFrom = Buffer.from;
const utf8Length = Buffer.byteLength;
const Text = String;

const INSPECT = {
  depth: 6,
  maxArrayLength: 200,
  maxStringLength: 10_000,
  breakLength: 100,
  getters: false,
};
const TEXT_LIMIT = 64 * 1024;
const playwrightMark = Symbol('playwright');
const lossy = Symbol('lossy');

/** @param {unknown} value @param {number} limit bytes of UTF-8 @returns {{text: string | null, truncated: boolean}} */
export function present(value, limit) {
  let text;
  try {
    text = plain(value);
  } catch {
    text = shown(value);
  }
  return text === undefined ? { text: null, truncated: false } : cut(text, limit);
}

/** @param {any} value @returns {string | undefined} */
function plain(value) {
  switch (typeof value) {
    case 'string':
    case 'undefined':
      return value;
    case 'boolean':
      return stringify(value);
    case 'number':
      return finite(value) ? stringify(value) : inspect(value);
    case 'object':
      if (types.isUint8Array(value))
        return BufferFrom(value.buffer, value.byteOffset, value.byteLength).toString('base64');
      return stringify(value, keep) ?? inspect(value, INSPECT);
    default:
      return inspect(value, INSPECT);
  }
}

/** A JSON replacer that gives up on what JSON would lose. @this {any} @param {string} key @param {any} value */
function keep(key, value) {
  const original = this[key];
  switch (typeof value) {
    case 'bigint':
    case 'function':
    case 'symbol':
      throw lossy;
    case 'number':
      if (!finite(value)) throw lossy;
      break;
    case 'object':
      if (value === null) break;
      if (
        types.isMap(value) ||
        types.isSet(value) ||
        types.isRegExp(value) ||
        types.isNativeError(value) ||
        types.isPromise(value) ||
        types.isWeakMap(value) ||
        types.isWeakSet(value) ||
        types.isAnyArrayBuffer(value) ||
        types.isGeneratorObject(value) ||
        types.isModuleNamespaceObject(value) ||
        (isView(value) && !types.isTypedArray(value))
      )
        throw lossy;
      if (!isArray(value) && value[playwrightMark]) throw lossy;
  }
  if (typeof original === 'object' && original?.[playwrightMark]) throw lossy;
  return value;
}

/** @param {unknown} value @returns {string} */
function shown(value) {
  try {
    return inspect(value, INSPECT);
  } catch {
    return '[value that can not be shown]';
  }
}

/** @param {string} text @param {number} limit @returns {{text: string, truncated: boolean}} */
function cut(text, limit) {
  if (text.length * 3 <= limit || utf8Length(text) <= limit) return { text, truncated: false };
  const bytes = BufferFrom(text.slice(0, limit), 'utf8').subarray(0, limit + 1);
  let end = smaller(bytes.length, limit);
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end -= 1;
  return { text: bytes.toString('utf8', 0, end), truncated: true };
}

/**
 * What `finished.error` and stderr say about something thrown. A thrown value that is no Error is
 * named after its class, and plainly `Error` when it has none.
 * @param {any} thrown @returns {{name: string, message: string, text: string}}
 */
export function describe(thrown) {
  if (!types.isNativeError(thrown) && !isErrorLike(thrown)) {
    const message = typeof thrown === 'string' ? thrown : shown(thrown);
    const text = `Uncaught ${typeof thrown === 'string' ? inspect(thrown, INSPECT) : message}`;
    return {
      name: className(thrown),
      message: cut(message, TEXT_LIMIT).text,
      text: cut(text, TEXT_LIMIT).text,
    };
  }
  const name = field(thrown, 'name') || 'Error';
  const message = field(thrown, 'message');
  let text;
  try {
    text = inspect(thrown, { ...INSPECT, depth: 4 });
  } catch {
    text = `${name}: ${message}`;
  }
  return {
    name: cut(name, 1024).text,
    message: cut(message, TEXT_LIMIT).text,
    text: cut(text, 4 * TEXT_LIMIT).text,
  };
}

/** An Error of another realm, or one without V8's mark. @param {any} value */
function isErrorLike(value) {
  try {
    return typeof value === 'object' && value !== null && value instanceof Error;
  } catch {
    return false;
  }
}

/** @param {any} object @param {string} key @returns {string} */
function field(object, key) {
  try {
    const value = object[key];
    return typeof value === 'string' ? value : value === undefined ? '' : Text(value);
  } catch {
    return '';
  }
}

/** @param {any} value @returns {string} */
function className(value) {
  if (typeof value !== 'object' || value === null) return 'Error';
  try {
    const name = value.constructor?.name;
    return typeof name === 'string' && name && name !== 'Object' ? cut(name, 1024).text : 'Error';
  } catch {
    return 'Error';
  }
}

/**
 * Gives a Playwright class a short text, for results and for console.log: by itself it prints
 * thousands of lines of internals.
 * @param {object} sample an object of the class
 * @param {(prototype: any) => boolean} isBase tells the prototype that gets it
 * @param {(one: any) => string} text
 */
export function shorten(sample, isBase, text) {
  for (let proto = getPrototypeOf(sample); proto; proto = getPrototypeOf(proto)) {
    if (!isBase(proto)) continue;
    const show = function (/** @this {any} */) {
      return text(this);
    };
    defineProperty(proto, inspect.custom, { value: show, configurable: true, writable: true });
    defineProperty(proto, playwrightMark, { value: true });
    return;
  }
}
