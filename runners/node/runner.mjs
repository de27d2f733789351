// @ts-check
/**
 * The Node runner: `node runner.mjs`, frames on fd 3 (see ../README.md).
 *
 * main thread                        worker (worker.mjs)
 *   user code, Playwright,             fd 3, parsing and rewriting,
 *   what touches live objects   <----  node:inspector session on the main thread
 *
 * The worker evaluates from outside, so stacks hold only the user's frames, and user code that
 * changes built-ins does not reach the parts that read and write frames.
 */
import { closeSync, openSync } from 'node:fs';
import { types } from 'node:util';
import { Worker } from 'node:worker_threads';
import { bindPage, connect, currentTarget, preload } from './browser.mjs';
import { pageboxAt } from './handoff.mjs';
import { load, meta, require } from './modules.mjs';
import { describe, present } from './present.mjs';
import { installProxy } from './proxy.mjs';
import { installOutput, writeAll } from './stdio.mjs';

const realm = globalThis;
const { setImmediate, process } = realm;
const { defineProperty, getOwnPropertyDescriptor, freeze, keys } = Object;
// User code may put anything in the place of these names.
const Future = Promise;
const Failure = Error;
const toNumber = Number;
const exit = process.exit.bind(process);
const slice = Function.prototype.call.bind(String.prototype.slice);
const codeAt = Function.prototype.call.bind(String.prototype.charCodeAt);
const toWellFormed = Function.prototype.call.bind(String.prototype.toWellFormed);
/** Longer results go to the worker in pieces: whole, the inspector would make a dozen copies. */
const WHOLE_RESULT_LIMIT = 64 * 1024;
/** A long result until it is fetched. */
let held = '';
/** More failures of one execution are not told. */
const FAILURE_LIMIT = 10;

const builtins = Object.getOwnPropertyNames(realm);
/** @type {Record<string, boolean>} */
const isBuiltin = Object.create(null);
for (const name of builtins) isBuiltin[name] = true;
/** User declarations with a built-in's name, see rewrite.mjs. @type {Record<string, () => unknown>} */
const kept = Object.create(null);
/** Uncaught errors of the running execution; undefined between executions. @type {unknown[] | undefined} */
let failures;
/** What `environment` replaced. @type {{name: string, value: string | undefined}[]} */
let replaced = [];

class Box {
  #value;
  /** @param {unknown} value */
  constructor(value) {
    this.#value = value;
  }
  /** @param {any} one */
  static open(one) {
    return typeof one === 'object' && one !== null && #value in one ? one.#value : one;
  }
}

/**
 * What rewritten code calls; by itself it boxes a value. From here on nothing leans on methods or
 * iterators of built-ins, which the code may have changed.
 * @param {unknown[]} values the parts of a comma expression
 */
function forCode(...values) {
  return new Box(values[values.length - 1]);
}
/** Takes the value that the code ends with, when `run` waits for it. @type {((value: unknown) => void) | undefined} */
let reached;
/**
 * What rewritten code calls with its value when nothing of it is left to run.
 * @param {unknown[]} values as above
 */
forCode.end = (...values) => {
  const value = values[values.length - 1];
  if (!reached) return new Box(value);
  reached(value);
};
/** A promise the code has to wait for before it begins. @type {Promise<unknown> | undefined} */
forCode.wait = undefined;
forCode.load = load;
forCode.meta = meta;
/** @param {string} name */
forCode.kept = (name) => kept[name]?.();
/** @param {{0: string, 1: () => unknown, 2: (value: unknown) => void}[]} names */
forCode.publish = (names) => {
  for (let i = 0; i < names.length; i += 1) {
    const name = names[i][0];
    const get = names[i][1];
    if (!isBuiltin[name]) {
      try {
        defineProperty(realm, name, {
          __proto__: null,
          get,
          set: names[i][2],
          enumerable: true,
          configurable: true,
        });
        continue;
      } catch {
        // the code froze the global object or this name
      }
    }
    kept[name] = get;
  }
};

/** In the place of a value: the code has ended without one. */
const failed = freeze({});

/**
 * @param {string | null} target @param {Record<string, string>} environment @param {string[]} vars
 * @param {boolean} navigated whether pages have gone elsewhere
 * @param {function} called what the worker has called
 * @returns {undefined | Promise<unknown>}
 */
function prepare(target, environment, vars, navigated, called) {
  failures = [];
  const names = keys(environment);
  for (let i = 0; i < names.length; i += 1) {
    replaced[i] = { name: names[i], value: process.env[names[i]] };
    process.env[names[i]] = environment[names[i]];
  }
  for (let i = 0; i < vars.length; i += 1) declareVar(vars[i]);
  const waiting = bindPage(target, navigated);
  // This may interrupt other code, of Playwright or a callback: the user's code then starts after it.
  forCode.wait =
    waiting ?? (isInterrupting(called) ? new Future((go) => setImmediate(go)) : undefined);
  return waiting;
}

/**
 * @param {'value' | 'error' | 'none'} kind @param {any} value what the code ended with
 * @param {boolean} awaited @param {number} limit
 */
async function finish(kind, value, awaited, limit) {
  reached?.(failed);
  let hasFailed = kind !== 'value';
  /** @type {unknown[]} */
  const errors = [];
  if (kind === 'error') errors[0] = value;
  value = Box.open(value);
  if (kind === 'value' && awaited && types.isPromise(value)) {
    try {
      value = await value;
    } catch (error) {
      hasFailed = true;
      errors[0] = error;
    }
  }
  // Rejections are told after the microtasks: let those of the last statement arrive.
  await new Future((go) => setImmediate(go));
  for (let i = 0; failures && i < failures.length; i += 1) {
    hasFailed = true;
    if (failures[i] !== errors[0]) errors[errors.length] = failures[i];
  }
  failures = undefined;
  const code = process.exitCode;
  process.exitCode = undefined;
  for (let i = replaced.length - 1; i >= 0; i -= 1) {
    const { name, value: before } = replaced[i];
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
  replaced = [];
  const described = [];
  for (let i = 0; i < errors.length; i += 1) described[i] = describe(errors[i]);
  const { text, truncated } = present(hasFailed ? undefined : value, limit);
  const result = text === null ? null : toWellFormed(text);
  const isLong = result !== null && result.length > WHOLE_RESULT_LIMIT;
  held = isLong ? result : '';
  return {
    exit_code: hasFailed ? 1 : toNumber(code ?? 0) & 255,
    result: isLong ? null : result,
    result_length: held.length,
    result_truncated: truncated,
    errors: described,
    page: currentTarget(),
  };
}

/** What the worker calls. */
const forWorker = freeze({
  /** The target of the page that is bound then. @param {string} url */
  async connect(url) {
    await connect(url);
    return currentTarget();
  },
  exit,
  finish,
  /**
   * @param {string | null} target @param {Record<string, string>} environment @param {string[]} vars
   * @param {boolean} navigated
   * @returns {undefined | Promise<unknown>}
   */
  begin(target, environment, vars, navigated) {
    return prepare(target, environment, vars, navigated, forWorker.begin);
  },
  /**
   * Begins, and finishes as soon as the code says its value (`__pb.end`), without a word from the
   * worker in between. Code that fails before is finished by the worker: then there is no reply.
   * @param {string | null} target @param {Record<string, string>} environment @param {string[]} vars
   * @param {number} limit
   */
  run(target, environment, vars, limit) {
    prepare(target, environment, vars, false, forWorker.run);
    return new Future((resolve) => {
      reached = (value) => {
        reached = undefined;
        resolve(value === failed ? undefined : finish('value', value, true, limit));
      };
    });
  },
  /**
   * A piece of the held result, not ending within a pair. With the last one it is let go.
   * @param {number} from @param {number} size
   */
  piece(from, size) {
    let part = slice(held, from, from + size);
    const last = codeAt(part, part.length - 1);
    if (last >= 0xd800 && last < 0xdc00) part = slice(part, 0, part.length - 1);
    if (from + part.length >= held.length) held = '';
    return part;
  },
});

/** `var` makes an unchangeable global unless there is one already; only then can it be redeclared. @param {string} name */
function declareVar(name) {
  const before = getOwnPropertyDescriptor(realm, name);
  if (before && !before.get) return;
  let value;
  try {
    value = before?.get?.call(realm);
  } catch {
    // its declaration was never reached
  }
  if (before && !before.configurable) return;
  defineProperty(realm, name, { value, writable: true, enumerable: true, configurable: true });
}

/** Whether other JavaScript runs below what the worker has called. @param {function} called */
function isInterrupting(called) {
  const limit = Failure.stackTraceLimit;
  const prepare = Failure.prepareStackTrace;
  /** @type {{stack?: any}} */
  const here = {};
  try {
    Failure.stackTraceLimit = 4;
    Failure.prepareStackTrace = (_, frames) => frames.length;
    Failure.captureStackTrace(here, called);
    return here.stack > 1;
  } catch {
    return false;
  } finally {
    Failure.prepareStackTrace = prepare;
    Failure.stackTraceLimit = limit;
  }
}

/** @param {any} error */
function uncaught(error) {
  if (process.listenerCount('uncaughtException') > 0) {
    process.emit('uncaughtException', error, 'uncaughtException');
    return;
  }
  if (failures) {
    if (failures.length < FAILURE_LIMIT) failures[failures.length] = error;
    return;
  }
  try {
    writeAll(2, Buffer.from(`${describe(error).text}\n`));
  } catch {
    // stderr is closed
  }
}

/** At its end node would say on stderr that it waits for a debugger, meaning the worker's session. */
function quietExit() {
  const reallyExit = /** @type {any} */ (process).reallyExit.bind(process);
  /** @type {any} */ (process).reallyExit = (/** @type {number} */ code) => {
    try {
      closeSync(2);
      openSync('/dev/null', 'w'); // takes the lowest free fd, so 2
    } catch {
      // the code closed its stderr
    }
    reallyExit(code);
  };
}

quietExit();
installOutput();
installProxy();
// Unlike a listener it survives process.removeAllListeners(). Unhandled rejections arrive here too.
process.setUncaughtExceptionCaptureCallback(uncaught);
defineProperty(realm, 'require', { value: require, writable: true, configurable: true });
const pagebox = pageboxAt(process.env.CDP_URL);
defineProperty(realm, 'pagebox', { value: pagebox, writable: true, configurable: true });
defineProperty(realm, '__pb', { value: forCode });
defineProperty(realm, '__pbWorker', { value: forWorker, configurable: true });
const worker = new Worker(new URL('./worker.mjs', import.meta.url), {
  workerData: { builtins },
  stdin: false,
  stdout: false,
  stderr: false,
});
worker.on('error', (error) => {
  writeAll(2, Buffer.from(`runner: ${error.stack}\n`));
  exit(70);
});
worker.on('exit', () => exit(70));
// Node programs that the code starts take the proxy too.
process.env.NODE_OPTIONS ??= `--import=${new URL('./proxy-preload.mjs', import.meta.url)}`;
// There is a browser, or will be: the daemon starts both at once, so that this takes none of its time.
if (process.env.CDP_URL) preload();
