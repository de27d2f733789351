// @ts-check
/**
 * The worker of the Node runner: reads frames, evaluates code on the main thread through the
 * inspector, answers. User code can not reach this realm.
 */
import { Session } from 'node:inspector';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { workerData } from 'node:worker_threads';
import { CodeError, compileTimeText, syntaxText, tidy, uncoloured } from './errors.mjs';
import { openFrames } from './frames.mjs';
import { rewrite } from './rewrite.mjs';
import { writeAll } from './stdio.mjs';

/** How long the main thread may take to end after the daemon has gone. */
const EXIT_GRACE_MS = 200;

/** How long nothing must have run before the main thread gives back the memory it does not need. */
const IDLE_MS = 10_000;

/** How much of a long result is fetched from the main thread at once, in UTF-16 units. */
const PIECE = 256 * 1024;

const home = dirname(fileURLToPath(import.meta.url));
const session = new Session();
session.connectToMainThread();
/** @type {Set<string>} */
const builtins = new Set(workerData.builtins);
/** @type {Set<string>} */
const kept = new Set();
/** The page known to be bound without waiting. @type {string | null | undefined} */
let settledPage;
let count = 0;

// An inspector session alone does not keep this thread's loop going; later the socket does.
const alive = setInterval(() => {}, 1 << 30);
const main = (await post('Runtime.evaluate', { expression: '__pbWorker' })).result.objectId;
await post('Runtime.evaluate', { expression: 'delete globalThis.__pbWorker' });

const send = openFrames(
  3,
  (frame) => {
    if (frame.type === 'init') initialise(frame);
    else if (frame.type === 'execute') execute(frame);
  },
  () => {
    call('exit', [{ value: 0 }]);
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), EXIT_GRACE_MS);
  },
);

clearInterval(alive);

// The parser's first use takes longest: here it waits for nobody, for Playwright is being loaded.
rewrite('await page.title()', builtins, new Set());

let isRunning = false;
const idle = setTimeout(() => {
  if (!isRunning) session.post('HeapProfiler.collectGarbage');
}, IDLE_MS);

/** @param {string} method @param {object} params @returns {Promise<any>} */
function post(method, params) {
  return new Promise((resolve, reject) => {
    session.post(method, params, (error, reply) => {
      if (error) reject(new Error(`${method}: ${error.message}`));
      else resolve(reply);
    });
  });
}

/** Calls a method of the main thread. @param {string} name @param {object[]} parameters */
async function call(name, parameters) {
  const { result, exceptionDetails } = await post('Runtime.callFunctionOn', {
    objectId: main,
    // No spread: its iterator may be the user's by now.
    functionDeclaration: `function(a,b,c,d){return this.${name}(a,b,c,d)}`,
    arguments: parameters,
    awaitPromise: true,
    returnByValue: true,
    silent: true,
  });
  if (exceptionDetails)
    throw new Error(uncoloured(exceptionDetails.exception?.description ?? exceptionDetails.text));
  return result.value;
}

/** @param {{cdp_url: string | null}} frame */
async function initialise(frame) {
  try {
    if (frame.cdp_url !== null) settledPage = await call('connect', [{ value: frame.cdp_url }]);
    send({ type: 'ready' });
  } catch (error) {
    send({
      type: 'failed',
      message: /** @type {Error} */ (error).message.slice(0, 4096).toWellFormed(),
    });
    setTimeout(() => call('exit', [{ value: 1 }]), 10);
  }
}

/**
 * @param {{id: string, page: string | null, navigated?: boolean, result_limit_bytes: number, code: string,
 *   environment: Record<string, string>}} frame
 */
async function execute(frame) {
  count += 1;
  isRunning = true;
  const file = `cell-${count}.js`;
  /** @type {import('./rewrite.mjs').Script | undefined} */
  let script;
  /** @type {{name: string, message: string, text: string} | undefined} */
  let syntax;
  try {
    script = rewrite(frame.code, builtins, kept);
  } catch (error) {
    if (!(error instanceof CodeError)) throw error;
    syntax = syntaxText(error, frame.code, file);
  }
  const { reply, details } =
    script?.ends && frame.page === settledPage && !frame.navigated
      ? await runToEnd(script, file, frame)
      : await runInSteps(script, file, frame);
  settledPage = reply.page;
  const { errors, ...answer } = reply;
  for (const error of errors) {
    error.message = uncoloured(error.message);
    error.text = uncoloured(error.text);
  }
  if (syntax) errors.unshift(syntax);
  for (const [index, error] of errors.entries()) {
    if (error === syntax) complain(error.text);
    else if (index === 0 && details?.scriptId && details.exception?.className === 'SyntaxError')
      complain(compileTimeText(error, details, frame.code, file));
    else complain(tidy(error.text, frame.code, file, script?.shifts ?? [], home));
  }
  const first = errors[0];
  const finished = {
    type: 'finished',
    id: frame.id,
    exit_code: answer.exit_code,
    result: answer.result,
    result_truncated: answer.result_truncated,
    error: first
      ? { name: first.name.toWellFormed(), message: first.message.toWellFormed() }
      : null,
    page: answer.page,
  };
  if (answer.result_length === 0) await send(finished);
  else await sendInPieces(finished, answer.result_length);
  isRunning = false;
  idle.refresh();
}

/**
 * @typedef {{page: string | null, navigated?: boolean, environment: Record<string, string>, result_limit_bytes: number}} Given
 * What an execution is given beside its code.
 */

/**
 * Runs code that says its value itself: the main thread answers without being asked again.
 * @param {import('./rewrite.mjs').Script} script @param {string} file @param {Given} given
 */
async function runToEnd(script, file, given) {
  const done = call('run', [
    { value: given.page },
    { value: given.environment ?? {} },
    { value: script.vars },
    { value: given.result_limit_bytes },
  ]);
  const failing = evaluate(script, file).then(
    async ({ exceptionDetails: details }) =>
      details && { details, reply: await finish('error', details.exception, false, given) },
  );
  const reply = await done;
  return reply ? { reply, details: undefined } : await failing;
}

/**
 * Binds the page first, unless it is bound, and asks for the outcome when there is one.
 * @param {import('./rewrite.mjs').Script | undefined} script @param {string} file @param {Given} given
 */
async function runInSteps(script, file, given) {
  const begun = call('begin', [
    { value: given.page },
    { value: given.environment ?? {} },
    { value: script?.vars ?? [] },
    { value: given.navigated ?? false },
  ]);
  if (given.page !== settledPage || given.navigated) await begun;
  const ended = script ? await evaluate(script, file) : undefined;
  await begun;
  const details = ended?.exceptionDetails;
  const value = details ? details.exception : ended?.result;
  const kind = ended ? (details ? 'error' : 'value') : 'none';
  return { details, reply: await finish(kind, value, script?.awaited ?? false, given) };
}

/**
 * @param {'value' | 'error' | 'none'} kind @param {any} value what the code ended with
 * @param {boolean} awaited @param {Given} given
 */
async function finish(kind, value, awaited, given) {
  const reply = await call('finish', [
    { value: kind },
    argument(value),
    { value: awaited },
    { value: given.result_limit_bytes },
  ]);
  session.post('Runtime.releaseObjectGroup', { objectGroup: 'cell' });
  return reply;
}

/**
 * A frame with the result the main thread holds.
 * @param {object} finished @param {number} length of the result
 */
async function sendInPieces(finished, length) {
  const { result: _, ...rest } = /** @type {any} */ (finished);
  await send.text(`${JSON.stringify(rest).slice(0, -1)},"result":"`);
  for (let at = 0; at < length; ) {
    const piece = await call('piece', [{ value: at }, { value: PIECE }]);
    at += piece.length;
    await send.text(JSON.stringify(piece).slice(1, -1));
  }
  await send.text('"}\n');
}

/** @param {import('./rewrite.mjs').Script} script @param {string} file */
function evaluate(script, file) {
  return post('Runtime.evaluate', {
    expression: `${script.expression}\n//# sourceURL=${file}`,
    replMode: true,
    awaitPromise: true,
    silent: true,
    objectGroup: 'cell',
  });
}

/** A remote object as an argument. @param {any} remote */
function argument(remote) {
  if (!remote || remote.type === 'undefined') return {};
  if (remote.objectId) return { objectId: remote.objectId };
  if (remote.unserializableValue) return { unserializableValue: remote.unserializableValue };
  return { value: remote.value };
}

/** @param {string} text */
function complain(text) {
  try {
    writeAll(2, Buffer.from(`${text}\n`));
  } catch {
    // The code closed its stderr.
  }
}
