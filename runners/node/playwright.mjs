// @ts-check
/**
 * Loads playwright-core. Compiling its bundles is most of what a runner's start costs, so set-up
 * runs `node playwright.mjs --cache` once, which leaves V8's code cache beside them, of shorter bundles. V8 itself
 * checks that a cache was made by this V8 with these flags for a source of this length; one that it
 * refuses, or that is missing, costs only the time.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, Script } from 'node:vm';

/** Where the caches are: inside what `npm ci` replaces, so never older than what they are of. */
const home = fileURLToPath(new URL('./node_modules/playwright-core/lib', import.meta.url));
const bundles = ['coreBundle.js', 'utilsBundle.js'];
/** The same directory as code in a sandbox sees it. */
const inside = '/opt/pagebox/runners/node/node_modules/playwright-core/lib';

/** @type {any} */
const { prototype } = Module;
const require = createRequire(import.meta.url);

/** @param {(filename: string, content: string) => Script | undefined} compile @returns {typeof import('playwright-core')} */
function loadWith(compile) {
  const { _compile } = prototype;
  /** @this {any} @param {string} content @param {string} filename */
  prototype._compile = function (content, filename) {
    const script = compile(filename, content);
    if (!script) return _compile.call(this, content, filename);
    const wrapped = script.runInThisContext();
    return wrapped.call(
      this.exports,
      this.exports,
      createRequire(filename),
      this,
      filename,
      dirname(filename),
    );
  };
  try {
    return require('playwright-core');
  } finally {
    prototype._compile = _compile;
  }
}

/** @param {string} filename */
function cacheOf(filename) {
  return bundles.some((name) => filename === join(home, name)) ? `${filename}.cache` : undefined;
}

/** @param {string} filename @param {string} content @param {Buffer} [cachedData] */
function script(filename, content, cachedData) {
  return new Script(Module.wrap(content), {
    filename,
    cachedData,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
}

/** The package; loaded once. */
export function playwright() {
  return loadWith((filename, content) => {
    const cache = cacheOf(filename);
    if (!cache || !existsSync(cache)) return undefined;
    return script(filename, content, readFileSync(cache));
  });
}

/**
 * V8 keeps the whole text of the bundles, 7 MB, in every runner. Takes comments and blanks out of them, a
 * fifth, and the few characters beyond ASCII, for one of which it would take two bytes for each character.
 */
async function shrink() {
  const { parse } = await import('acorn');
  for (const name of bundles) {
    const filename = join(home, name);
    const content = readFileSync(filename, 'utf8');
    const shrunk = withoutBlanks(content, parse).replace(
      /[\u0080-\uffff]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
    if (shrunk !== content) replace(filename, shrunk);
  }
}

/** Line breaks stay: a statement may end by one. @param {string} text @param {typeof import('acorn').parse} parse */
function withoutBlanks(text, parse) {
  /** @type {string[]} */
  const parts = [];
  let last = 0;
  parse(text, {
    ecmaVersion: 'latest',
    allowReturnOutsideFunction: true,
    onToken({ start, end }) {
      parts.push(blank(text.slice(last, start), `${text[last - 1]}${text[start]}`));
      parts.push(text.slice(start, end));
      last = end;
    },
  });
  return parts.join('');
}

/** What must stay between two tokens. @param {string} gap @param {string} around the characters beside it */
function blank(gap, around) {
  if (/[\n\r\u2028\u2029]/.test(gap)) return '\n';
  return gap === '' || /[(){}[\];,:=]/.test(around) ? '' : ' ';
}

/** A runner that starts now must never see half of it. @param {string} filename @param {string | Buffer} content */
function replace(filename, content) {
  writeFileSync(`${filename}.new`, content);
  renameSync(`${filename}.new`, filename);
}

/** Writes the caches, with the functions that loading and connecting compile. */
async function makeCaches() {
  await shrink();
  /** @type {{one: Script, filename: string, content: string}[]} */
  const made = [];
  const { chromium } = loadWith((filename, content) => {
    if (!cacheOf(filename)) return undefined;
    // The name stays in the cache, and is what a stack shows.
    const one = script(join(inside, basename(filename)), content);
    made.push({ one, filename, content });
    return one;
  });
  // Nothing listens there; what fails has been compiled all the same.
  await chromium.connectOverCDP('ws://127.0.0.1:1/').catch(() => {});
  for (const { one, filename, content } of made) {
    const data = one.createCachedData();
    if (script(filename, content, data).cachedDataRejected)
      throw new Error(`V8 refuses the code cache it made of ${filename}`);
    replace(`${filename}.cache`, data);
  }
}

if (process.argv[2] === '--cache' && process.argv[1] === fileURLToPath(import.meta.url))
  await makeCaches();
