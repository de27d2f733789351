// @ts-check
/** What stderr says about an error, in the form node itself uses (worker side, pure text). */
import { Script } from 'node:vm';

/** Longer source lines (minified code) are not repeated. */
const SOURCE_LINE_LIMIT = 1000;

/** A syntax error of the user's code: `line` counts from 1, `column` from 0. */
export class CodeError extends Error {
  /** @param {string} message @param {number} line @param {number} column */
  constructor(message, line, column) {
    super(message);
    this.line = line;
    this.column = column;
  }
}

const escapes = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

/** Without the terminal colours Playwright puts into messages. @param {string} text */
export function uncoloured(text) {
  return text.replace(escapes, '');
}

/**
 * The place and the source line above the stack, as node prints them.
 * @param {string} code @param {string} file @param {number} line from 1 @param {number} column from 0
 */
function place(code, file, line, column) {
  const source = code.split('\n')[line - 1]?.replace(/\r$/, '');
  if (source === undefined || source.length > SOURCE_LINE_LIMIT) return `${file}:${line}\n\n`;
  const indent = source.slice(0, column).replace(/[^\t]/g, ' ').padEnd(column);
  return `${file}:${line}\n${source}\n${indent}^\n\n`;
}

/**
 * A stack for stderr: without the runner's and Playwright's own frames, with the columns put
 * right, and with the place in front when the running code is in it.
 * @param {string} text @param {string} code @param {string} file @param {import('./rewrite.mjs').Shift[]} shifts
 * @param {string} home the runner's folder
 */
export function tidy(text, code, file, shifts, home) {
  const hidden = [`${home}/node_modules/playwright-core/`, `${home}/`];
  const lines = text.split('\n').filter((line) => {
    if (!/^\s+at /.test(line)) return true;
    if (/ at (?:async )?__pb\b/.test(line) || line.includes('(node:internal/process/task_queues'))
      return false;
    // Node's own hook below a continuation after an await.
    if (/ at promise\w+Hook\w* \(node:internal\/async_hooks:/.test(line)) return false;
    return !hidden.some((folder) => line.includes(folder));
  });
  const name = file.replaceAll('.', '\\.');
  const own = new RegExp(`${name}:(\\d+):(\\d+)`, 'g');
  const fixed = lines.join('\n').replace(own, (_, line, column) => {
    const shift = shifts.findLast(([at, from]) => at === Number(line) && from < Number(column));
    return `${file}:${line}:${Math.max(1, Number(column) - (shift?.[2] ?? 0))}`;
  });
  const found = new RegExp(`^\\s+at .*?${name}:(\\d+):(\\d+)`, 'm').exec(fixed);
  return found ? place(code, file, Number(found[1]), Number(found[2]) - 1) + fixed : fixed;
}

/**
 * An error V8 found when compiling that the parser had let pass.
 * @param {{message: string}} error @param {{lineNumber: number, columnNumber: number}} details
 * @param {string} code @param {string} file
 */
export function compileTimeText(error, details, code, file) {
  const last = code.split('\n').length;
  const where = place(code, file, Math.min(details.lineNumber + 1, last), details.columnNumber);
  return `${where}SyntaxError: ${error.message}`;
}

/**
 * A syntax error in V8's words when V8 sees it on the same line, else in the parser's.
 * @param {CodeError} error @param {string} code @param {string} file
 */
export function syntaxText(error, code, file) {
  const { line } = error;
  let { message, column } = error;
  const lines = code.trimEnd().split('\n');
  const atEnd =
    line > lines.length || (line === lines.length && column >= (lines.at(-1) ?? '').length);
  // Neither form takes all code: a script has no top-level await, a function can be closed early.
  const forms = [
    { source: `(async function(){\n${code}\n})`, lineOffset: -1 },
    { source: code, lineOffset: 0 },
  ];
  for (const { source, lineOffset } of forms) {
    try {
      new Script(source, { filename: file, lineOffset });
    } catch (seen) {
      const { message: words, stack } = /** @type {Error} */ (seen);
      const [head, , marker] = (stack ?? '').split('\n');
      if (head === `${file}:${line}` && !/\b(import|export|await|return)\b/i.test(words)) {
        message = words;
        const seenAt = marker?.indexOf('^') ?? -1;
        if (seenAt >= 0) column = seenAt;
        break;
      }
    }
  }
  if (message === 'Unexpected token' && atEnd) message = 'Unexpected end of input';
  return {
    name: 'SyntaxError',
    message,
    text: `${place(code, file, line, column)}SyntaxError: ${message}`,
  };
}
