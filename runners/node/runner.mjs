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
import { Worker } from 'node:worker_threads';
import { types } from 'node:util';
import { bindPage, connect, currentTarget } from './browser.mjs';
import { load, meta, require } from './modules.mjs';
import { describe, present } from './present.mjs';
import { installProxy } from './proxy.mjs';
import { installOutput, writeAll } from './stdio.mjs';

const realm = globalThis;
const { setImmediate, process, Map, Promise, Error } = realm;
const { defineProperty, getOwnPropertyDescriptor, freeze } = Object;
const exit = process.exit.bind(process);
/** Failures told one by one; the rest are counted. */
const FAILURE_LIMIT = 10;

const builtins = Object.getOwnPropertyNames(realm);
const isBuiltin = new Set(builtins);
/** User declarations with a built-in's name, see rewrite.mjs. @type {Map<string, () => unknown>} */
const kept = new Map();
/** Uncaught errors of the running execution; undefined between executions. @type {unknown[] | undefined} */
let failures;
/** What `environment` replaced. @type {[string, string | undefined][]} */
let replaced = [];

/** What rewritten code calls. */
const forCode = {
  /** A promise the code has to wait for before it begins. @type {Promise<unknown> | undefined} */
  wait: undefined,
  load,
  meta,
  /** @param {string} name */
  kept: (name) => kept.get(name)?.(),
  /** @param {[string, () => unknown, (value: unknown) => void][]} names */
  publish(names) {
    for (const [name, get, set] of names) {
      if (isBuiltin.has(name)) {
        kept.set(name, get);
        continue;
      }
      try {
        defineProperty(realm, name, { get, set, enumerable: true, configurable: true });
      } catch {
        kept.set(name, get); // the code froze the global object or this name
      }
    }
  },
};

/** What the worker calls. */
const forWorker = freeze({
  connect,
  exit,
  /**
   * @param {string | null} target @param {Record<string, string>} environment @param {string[]} vars
   * @returns {undefined | Promise<unknown>}
   */
  begin(target, environment, vars) {
    failures = [];
    for (const name in environment) {
      replaced.push([name, process.env[name]]);
      process.env[name] = environment[name];
    }
    for (const name of vars) declareVar(name);
    const waiting = bindPage(target);
    // This may interrupt other code, of Playwright or a callback: the user's code then starts after it.
    forCode.wait = waiting ?? (isInterrupting() ? new Promise((go) => setImmediate(go)) : undefined);
    return waiting;
  },
  /**
   * @param {'value' | 'error' | 'none'} kind @param {any} value what the code ended with
   * @param {boolean} awaited @param {number} limit
   */
  async finish(kind, value, awaited, limit) {
    /** @type {unknown[]} */
    const errors = [];
    if (kind === 'error') errors.push(value);
    else if (kind === 'value' && awaited && types.isPromise(value)) {
      try {
        value = await value;
      } catch (error) {
        errors.push(error);
      }
    }
    // Rejections are told after the microtasks: let those of the last statement arrive.
    await new Promise((go) => setImmediate(go));
    for (const failure of failures ?? []) if (!errors.includes(failure)) errors.push(failure);
    failures = undefined;
    const code = process.exitCode;
    process.exitCode = undefined;
    for (const [name, before] of replaced.splice(0).reverse()) {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    }
    const failed = errors.length > 0 || kind === 'none';
    const { text, truncated } = present(failed ? undefined : value, limit);
    return {
      exit_code: failed ? 1 : Number(code ?? 0) & 255,
      result: text,
      result_truncated: truncated,
      errors: errors.slice(0, FAILURE_LIMIT).map(describe),
      page: currentTarget(),
    };
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

/** Whether other JavaScript runs below this call. */
function isInterrupting() {
  const limit = Error.stackTraceLimit;
  const prepare = Error.prepareStackTrace;
  /** @type {{stack?: any}} */
  const here = {};
  try {
    Error.stackTraceLimit = 4;
    Error.prepareStackTrace = (_, frames) => frames.length;
    Error.captureStackTrace(here, forWorker.begin);
    return here.stack > 1;
  } catch {
    return false;
  } finally {
    Error.prepareStackTrace = prepare;
    Error.stackTraceLimit = limit;
  }
}

/** @param {any} error */
function uncaught(error) {
  if (process.listenerCount('uncaughtException') > 0) {
    process.emit('uncaughtException', error, 'uncaughtException');
    return;
  }
  if (failures) {
    if (failures.length < FAILURE_LIMIT) failures.push(error);
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
defineProperty(realm, '__pagebox', { value: forCode });
defineProperty(realm, '__pageboxWorker', { value: forWorker, configurable: true });
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
