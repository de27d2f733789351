// @ts-check
/**
 * The connection to the session's browser and the globals `page`, `context` and `browser` (main
 * thread). Pages are told apart by CDP target id, which Playwright knows but does not publish: it is
 * read from the server half that lives in the same process (playwright-core is pinned exactly).
 */
import { playwright } from './playwright.mjs';
import { shorten } from './present.mjs';

/** How long a page the daemon names may take to become known to Playwright. */
const PAGE_WAIT_MS = 2000;
/** How long Playwright may take to hear of what has happened; it takes a millisecond. */
const CATCH_UP_MS = 1000;

const { defineProperty, hasOwn } = Object;
const { setImmediate, setTimeout, clearTimeout } = globalThis;
const realm = globalThis;

/** @type {import('playwright-core').Browser | undefined} */
let browser;
/** Where it is. */
let endpoint = '';
/** The page of the latest binding. @type {any} */
let bound;

/** @type {Promise<typeof import('playwright-core')> | undefined} */
let loading;

/**
 * Loads Playwright, in a task of its own: the worker's calls interrupt whatever runs, and one that
 * loaded the package again in the middle of this would get half of it.
 */
export function preload() {
  loading ??= new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        resolve(playwright());
      } catch (error) {
        reject(error);
      }
    });
  });
  loading.catch(() => {}); // told to whoever connects
  return loading;
}

/** @param {string} url a CDP WebSocket URL */
export async function connect(url) {
  endpoint = url;
  const { chromium } = await preload();
  browser = /** @type {import('playwright-core').Browser} */ (
    await chromium.connectOverCDP(url, { isLocal: true })
  );
  const context = browser.contexts()[0] ?? (await browser.newContext());
  shorten(browser, (proto) => hasOwn(proto, 'toJSON') && hasOwn(proto, '_wrapApiCall'), shortText);
  bind('browser', browser);
  bind('context', context);
  const page = pages()[0];
  if (page) shortenLocators(page);
  else context.once('page', shortenLocators);
  bind('page', page);
  bound = page;
}

/**
 * Binds the globals for one execution. Returns a promise only when the page is not known yet.
 * @param {string | null} target
 * @param {boolean} navigated whether pages have gone elsewhere
 * @returns {undefined | Promise<void>}
 */
export function bindPage(target, navigated) {
  if (!browser) return undefined;
  // The code closed its connection (`browser.close()`); the browser itself lives on.
  if (!browser.isConnected()) return connect(endpoint).then(() => bindPage(target, false));
  bind('browser', browser);
  bind('context', browser.contexts()[0]);
  const known = target === null ? (isOpen(bound) ? bound : pages().at(-1)) : find(target);
  if (known || target === null) {
    bound = known;
    bind('page', known);
    return navigated ? catchUp() : undefined;
  }
  return waitFor(target).then((page) => {
    // A connection that is just closing has lost its pages before it says so.
    if (!page && browser && !browser.isConnected()) return bindPage(target, false);
    bound = page ?? pages().at(-1);
    bind('page', bound);
  });
}

/** Waits until Playwright has heard of all that has happened so far: it answers in order. */
async function catchUp() {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, CATCH_UP_MS);
  });
  // A call that no page has to answer. It fails when the browser has gone, as the code's own will.
  const answered = browser
    ?.contexts()[0]
    ?.cookies()
    .catch(() => {});
  await Promise.race([answered, late]);
  clearTimeout(timer);
}

/** The target id of the page that `page` refers to now, if it is an open page. @returns {string | null} */
export function currentTarget() {
  if (!browser) return null;
  try {
    const page = /** @type {any} */ (realm).page;
    return isOpen(page) ? (targetOf(page) ?? null) : null;
  } catch {
    return null;
  }
}

/** @param {any} page */
function isOpen(page) {
  return typeof page?._guid === 'string' && typeof page.goto === 'function' && !page.isClosed();
}

/** @param {any} page @returns {string | undefined} */
function targetOf(page) {
  try {
    return page._connection.toImpl(page).delegate._targetId;
  } catch {
    return undefined; // closed in this moment
  }
}

function pages() {
  return browser ? browser.contexts().flatMap((context) => context.pages()) : [];
}

/** @param {string} target */
function find(target) {
  return pages().find((page) => targetOf(page) === target);
}

/** @param {string} target @returns {Promise<any>} */
function waitFor(target) {
  return new Promise((resolve) => {
    const contexts = browser?.contexts() ?? [];
    const done = (/** @type {any} */ page) => {
      clearTimeout(timer);
      for (const context of contexts) context.off('page', check);
      closing?.off('disconnected', lost);
      resolve(page);
    };
    const check = (/** @type {any} */ page) => {
      if (targetOf(page) === target) done(page);
    };
    const closing = browser;
    const lost = () => done(undefined);
    const timer = setTimeout(() => done(undefined), PAGE_WAIT_MS);
    for (const context of contexts) context.on('page', check);
    closing?.once('disconnected', lost);
  });
}

/** @param {string} name @param {unknown} value */
function bind(name, value) {
  try {
    defineProperty(realm, name, { value, writable: true, enumerable: true, configurable: true });
  } catch {
    // The code made its own global unchangeable; it keeps it.
  }
}

/** @param {any} page */
function shortenLocators(page) {
  const text = (/** @type {any} */ one) => `Locator { ${one} }`;
  for (const one of [page.locator('x'), page.frameLocator('x')])
    shorten(one, (proto) => hasOwn(proto, 'constructor'), text);
}

/** @param {any} one a Playwright object */
function shortText(one) {
  const kind = one?._type ?? 'Object';
  try {
    if (kind === 'Response') return `Response { status: ${one.status()}, url: '${one.url()}' }`;
    if (kind === 'Page' || kind === 'Frame' || kind === 'Request')
      return `${kind} { url: '${one.url()}' }`;
  } catch {
    // closed
  }
  return `${kind} {}`;
}
