// @ts-check
/**
 * Writes to the clipboard of the person's computer. In a frame of another site the browser may refuse
 * `navigator.clipboard`; copying by command is allowed there for a moment after a key or a click.
 */
import { note } from './notes.js';
import { part } from './parts.js';

/** @param {string} text */
export async function writeClipboard(text) {
  const isWritten = (await writeByPermission(text)) || writeByCommand(text);
  if (!isWritten) askToWrite(text);
}

/** @param {string} text */
async function writeByPermission(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no permission, no focus, or no https
  }
}

/** The event takes the text, so that nothing of it is put into the document. @param {string} text */
function writeByCommand(text) {
  let isWritten = false;
  const fill = (/** @type {ClipboardEvent} */ event) => {
    event.clipboardData?.setData('text/plain', text);
    event.preventDefault();
    event.stopImmediatePropagation();
    isWritten = event.clipboardData !== null;
  };
  addEventListener('copy', fill, { capture: true, once: true });
  // Some browsers copy only where something is selected.
  if (document.activeElement === part('keys')) part('keys').select();
  const isDone = document.execCommand('copy');
  removeEventListener('copy', fill, { capture: true });
  return isDone && isWritten;
}

/** The answer came too long after the key: a click gives the right anew. @param {string} text */
function askToWrite(text) {
  note('The page’s selection is ready.', {
    label: 'Copy',
    run: async () => {
      if (!(await writeByPermission(text)) && !writeByCommand(text))
        note('This browser does not let the live view write to the clipboard.');
    },
  });
}
