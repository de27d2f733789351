// @ts-check
/**
 * The keyboard of the session's page: a hidden text field that has the focus while keys go there. Keys
 * go as keys; what an input method or a dead key makes of them goes as text.
 *
 * The field is never read for its value but for where an input method's caret is.
 */
import { note } from './notes.js';

const ALT = 1;
const CTRL = 2;
const META = 4;
const SHIFT = 8;

/** The session runs Linux, where shortcuts are made with Ctrl: there Command is Ctrl. */
export const isApple = /mac|iphone|ipad/i.test(navigator.platform);

/** Something to delete, or on-screen keyboards would not tell of a backspace: two zero-width spaces. */
const FILLER = '\u200b\u200b';
/** Characters in one message: at most 192 KiB, however they are escaped. */
const PIECE = 32 * 1024;
/** Characters that can be pasted at once. */
const PASTE_LIMIT = 1024 * 1024;
const MODIFIER_KEYS = new Set(['Shift', 'Control', 'Alt', 'AltGraph', 'Meta', 'CapsLock']);
/** What on-screen keyboards tell by the change only. @type {Record<string, [string, number?]>} */
const KEYS_BY_CHANGE = {
  deleteContentBackward: ['Backspace'],
  deleteContentForward: ['Delete'],
  deleteWordBackward: ['Backspace', CTRL],
  deleteWordForward: ['Delete', CTRL],
  insertLineBreak: ['Enter'],
  insertParagraph: ['Enter'],
};
/** With Ctrl or Command they are the person's own browser's: tabs, windows, reload, address, zoom. */
const RESERVED = new Set([...'tnwqrl0123456789+-=_', 'tab', 'pageup', 'pagedown']);
const RESERVED_ON_APPLE = new Set([...'hm,`', ' ']);
/** With Shift too: its tools. */
const RESERVED_WITH_SHIFT = new Set([...'ij']);
const RESERVED_ALONE = new Set(['F5', 'F11', 'F12']);

/** @param {MouseEvent | KeyboardEvent} event @returns {number} bits, as the protocol has them */
export function modifiersOf(event) {
  // AltGr makes characters; some systems tell it as Ctrl and Alt.
  const isAltGr = event.getModifierState('AltGraph');
  const isCtrl = event.ctrlKey || (isApple && event.metaKey);
  return (
    (event.altKey && !isAltGr ? ALT : 0) |
    (isCtrl && !isAltGr ? CTRL : 0) |
    (event.metaKey && !isApple ? META : 0) |
    (event.shiftKey ? SHIFT : 0)
  );
}

export class Keyboard {
  #field;
  #act;
  /** Keys the page was told are down, by code. @type {Map<string, {key: string, location: number}>} */
  #held = new Map();
  /** Whether a dead key waits for its letter. */
  #isDead = false;
  #isComposing = false;
  /** Where the input method's text begins in the field. */
  #from = 0;
  /** Sends what it shows: not at once, as the text it ends with is shown and committed in one go. */
  #timer = 0;

  /** @param {HTMLTextAreaElement} field @param {(message: object) => void} act */
  constructor(field, act) {
    this.#field = field;
    this.#act = act;
    field.addEventListener('keydown', (event) => this.#down(event));
    field.addEventListener('keyup', (event) => this.#up(event));
    field.addEventListener('blur', () => this.release());
    field.addEventListener('paste', (event) => this.#paste(event));
    field.addEventListener('input', (event) => this.#typed(/** @type {InputEvent} */ (event)));
    field.addEventListener('compositionstart', () => this.#begin());
    field.addEventListener('compositionend', ({ data }) => this.#commit(data));
    this.#clear();
  }

  /** Lets go of every key: those released while the focus is elsewhere are never told. */
  release() {
    for (const [code, { key, location }] of this.#held) this.#key('up', { key, code, location });
    this.#held.clear();
    this.#isDead = false;
  }

  /** @param {KeyboardEvent} event */
  #down(event) {
    if (isOfInputMethod(event) || isReserved(event) || this.#isOfDeadKey(event)) return;
    const modifiers = modifiersOf(event);
    const letter = (modifiers & (CTRL | ALT)) === CTRL ? letterOf(event) : '';
    // The browser answers with a paste event. The page never sees the key, or it would paste too.
    if (letter === 'v' || isPasteByInsert(event)) return;
    event.preventDefault();
    // Ahead of the key: after a cut nothing is selected any more.
    if ((letter === 'c' || letter === 'x') && !event.repeat) this.#act({ type: 'copy' });
    const told = inSession(event, modifiers);
    this.#held.set(told.code || told.key, told);
    this.#key('down', told);
    // While Command is down, macOS does not tell of other keys' release.
    if (isApple && event.metaKey && !MODIFIER_KEYS.has(event.key)) this.#up(event);
  }

  /** @param {KeyboardEvent} event */
  #up(event) {
    const told = inSession(event, modifiersOf(event));
    const id = told.code || told.key;
    if (!this.#held.delete(id)) return;
    event.preventDefault();
    this.#key('up', { ...told, repeat: false });
  }

  /**
   * The letter after a dead key is left to the field, which then has the accented one. Not every
   * browser names that in the key event.
   * @param {KeyboardEvent} event
   */
  #isOfDeadKey(event) {
    if (event.key === 'Dead') {
      this.#isDead = true;
      return true;
    }
    if (!this.#isDead || MODIFIER_KEYS.has(event.key)) return false;
    this.#isDead = false;
    return event.key.length === 1;
  }

  /** @param {InputEvent} event */
  #typed(event) {
    if (this.#isComposing) {
      this.#compose(event.data ?? '');
      return;
    }
    const [key, modifiers] = KEYS_BY_CHANGE[event.inputType] ?? [];
    if (key) this.#press(key, modifiers);
    // What a composition ended with was sent at its end; some browsers tell it once more.
    else if (!/composition/i.test(event.inputType)) this.#text(event.data ?? '');
    this.#clear();
  }

  #begin() {
    this.#isComposing = true;
    this.#from = this.#field.selectionStart;
  }

  /** @param {string} text */
  #compose(text) {
    const { selectionStart, selectionEnd } = this.#field;
    const [start, end] = [selectionStart, selectionEnd].map((at) =>
      Math.min(Math.max(at - this.#from, 0), text.length),
    );
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#act({ type: 'compose', text, start, end }));
  }

  /** @param {string} text empty when it was given up */
  #commit(text) {
    this.#isComposing = false;
    this.#isDead = false;
    clearTimeout(this.#timer);
    if (text) this.#text(text);
    else this.#act({ type: 'compose', text: '', start: 0, end: 0 });
    // Not at once: some input methods still look at the field.
    setTimeout(() => this.#isComposing || this.#clear());
  }

  /** @param {ClipboardEvent} event */
  #paste(event) {
    event.preventDefault();
    const text = event.clipboardData?.getData('text/plain').replace(/\r\n?/g, '\n') ?? '';
    if (text.length > PASTE_LIMIT) note('This is too long to paste: at most a million characters.');
    else if (text) this.#text(text);
    // The page may have something of its own to paste, such as a picture.
    else this.#press('v', CTRL, 'KeyV');
  }

  /** @param {string} text */
  #text(text) {
    for (let at = 0; at < text.length; ) {
      let end = Math.min(at + PIECE, text.length);
      if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end -= 1;
      this.#act({ type: 'text', text: text.slice(at, end) });
      at = end;
    }
  }

  /** @param {string} key @param {number} modifiers @param {string} code */
  #press(key, modifiers = 0, code = key) {
    this.#key('down', { key, code, modifiers });
    this.#key('up', { key, code, modifiers });
  }

  /** @param {'down' | 'up'} kind @param {object} told */
  #key(kind, told) {
    this.#act({ type: 'key', kind, location: 0, repeat: false, modifiers: 0, ...told });
  }

  #clear() {
    this.#field.value = FILLER;
    this.#field.setSelectionRange(FILLER.length, FILLER.length);
  }
}

/** A key as the session is to see it. @param {KeyboardEvent} event @param {number} modifiers */
function inSession({ key, code, location, repeat }, modifiers) {
  if (isApple && key === 'Meta')
    return { key: 'Control', code: code.replace('Meta', 'Control'), location, repeat, modifiers };
  // Option makes characters, as AltGr does.
  const isMade = isApple && key.length === 1 && (modifiers & CTRL) === 0;
  return { key, code, location, repeat, modifiers: isMade ? modifiers & ~ALT : modifiers };
}

/** Its text comes by itself. Safari tells the key that ends a composition by the number alone. @param {KeyboardEvent} event */
function isOfInputMethod({ isComposing, keyCode, key }) {
  return isComposing || keyCode === 229 || key === 'Process' || key === 'Unidentified';
}

/** @param {KeyboardEvent} event */
function isReserved(event) {
  const { ctrlKey, metaKey, shiftKey } = event;
  const key = event.key.toLowerCase();
  if (RESERVED_ALONE.has(event.key)) return true;
  // Elsewhere this key opens a menu of the desktop.
  if (event.key === 'Meta' || event.key === 'OS') return !isApple;
  if (!(ctrlKey || metaKey) || event.getModifierState('AltGraph')) return false;
  if (isApple && metaKey && RESERVED_ON_APPLE.has(key)) return true;
  return RESERVED.has(key) || (shiftKey && RESERVED_WITH_SHIFT.has(key));
}

/** The Latin letter of a key, which a shortcut goes by on any layout. @param {KeyboardEvent} event */
function letterOf({ key, code }) {
  return /^[a-z]$/i.test(key) ? key.toLowerCase() : code.replace(/^Key/, '').toLowerCase();
}

/** @param {KeyboardEvent} event */
function isPasteByInsert({ key, shiftKey, ctrlKey, altKey, metaKey }) {
  return key === 'Insert' && shiftKey && !ctrlKey && !altKey && !metaKey;
}

/** @param {number} unit of UTF-16 */
function isHighSurrogate(unit) {
  return unit >= 0xd800 && unit < 0xdc00;
}
