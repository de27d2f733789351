// @ts-check
/**
 * What the session's page asks in windows of its browser, which no picture has: JavaScript dialogs and
 * file choosers. They are modal to the picture only, as they are to a tab: the toolbar stays of use.
 */
import { bytes, COUNT_LIMIT, FILE_LIMIT } from './files.js';
import { focus, part } from './parts.js';

/**
 * @typedef {{acts: () => boolean, act: (message: object) => void, left: (from: HTMLElement) => void}} Link
 * @typedef {'alert' | 'confirm' | 'prompt' | 'beforeunload'} Kind
 */

/** Opens without taking the focus from who may not answer. @param {HTMLDialogElement} dialog @param {boolean} acts */
function open(dialog, acts) {
  if (acts && !dialog.open) dialog.show();
  dialog.open = true;
}

/** alert, confirm, prompt and beforeunload. */
export class Ask {
  #dialog = part('ask');
  #value = part('ask-value');
  #yes = part('ask-yes');
  #no = part('ask-no');
  #link;
  /** @type {Kind | null} */
  #kind = null;
  /** Of the dialog, to be said with the answer. @type {unknown} */
  #id = null;

  /** @param {Link} link */
  constructor(link) {
    this.#link = link;
    this.#yes.addEventListener('click', () => this.#answer(true));
    this.#no.addEventListener('click', () => this.#answer(false));
    this.#dialog.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
      if (event.key === 'Escape') this.#answer(false);
      else if (event.key === 'Enter' && event.target === this.#value && !event.isComposing)
        this.#answer(true);
      else return;
      event.preventDefault();
    });
  }

  /** @param {{id?: unknown, kind: Kind | null, message?: string, value?: string}} asked @param {string} host who asks */
  show({ id, kind, message = '', value = '' }, host) {
    this.hide();
    if (!kind) return;
    this.#id = id;
    this.#kind = kind;
    const isLeave = kind === 'beforeunload';
    part('ask-title').textContent = isLeave ? 'Leave this page?' : `${host || 'The page'} says`;
    part('ask-text').textContent = message || (isLeave ? 'What was entered may be lost.' : '');
    this.#value.value = value ?? '';
    this.#value.hidden = kind !== 'prompt';
    this.#no.hidden = kind === 'alert';
    this.#no.textContent = isLeave ? 'Stay' : 'Cancel';
    this.#yes.textContent = isLeave ? 'Leave' : 'OK';
    open(this.#dialog, this.#link.acts());
    this.update();
  }

  hide() {
    this.#kind = null;
    if (!this.#dialog.open) return;
    this.#link.left(this.#dialog);
    this.#dialog.close();
  }

  /** Who has just taken control can answer at once. */
  update() {
    if (!this.#kind || !this.#link.acts()) return;
    if (this.#kind !== 'prompt') {
      focus(this.#yes);
      return;
    }
    focus(this.#value);
    this.#value.select();
  }

  /** It stays until the server says that it has closed. @param {boolean} accept */
  #answer(accept) {
    if (!this.#kind || !this.#link.acts()) return;
    const text = this.#kind === 'prompt' ? this.#value.value : '';
    this.#link.act({ type: 'dialog', id: this.#id, accept, text });
  }
}

/** Files of the person's computer for the page. */
export class Chooser {
  #dialog = part('chooser');
  #input = part('chooser-files');
  #bar = part('chooser-progress');
  #state = part('chooser-state');
  #send = part('chooser-send');
  #files;
  #link;
  /** @type {unknown} */
  #id = null;
  /** Stops what is being sent. */
  #stop = new AbortController();

  /** @param {import('./files.js').Files} files @param {Link} link */
  constructor(files, link) {
    this.#files = files;
    this.#link = link;
    this.#send.addEventListener('click', () => this.#sendAll());
    this.#input.addEventListener('change', () => this.#tell(''));
    part('chooser-cancel').addEventListener('click', () => this.#answer([]));
    this.#dialog.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== 'Escape') return;
      event.preventDefault();
      this.#answer([]);
    });
    // The input's own cancel bubbles where the browser's file window was closed; the dialog stays.
    this.#input.addEventListener('cancel', (/** @type {Event} */ event) => event.stopPropagation());
  }

  /** @param {{id: unknown, multiple?: boolean, accept?: string}} asked */
  show({ id, multiple = false, accept }) {
    this.hide();
    if (id === null) return;
    this.#id = id;
    this.#stop = new AbortController();
    this.#input.value = '';
    this.#input.multiple = multiple;
    this.#input.accept = String(accept ?? '');
    const what = multiple ? 'files' : 'a file';
    part('chooser-text').textContent =
      `Choose ${what} of this computer, at most ${bytes(FILE_LIMIT)} each.`;
    this.#tell('');
    this.#showSending(false);
    open(this.#dialog, this.#link.acts());
    this.update();
  }

  hide() {
    this.#id = null;
    this.#stop.abort();
    if (!this.#dialog.open) return;
    this.#link.left(this.#dialog);
    this.#dialog.close();
  }

  update() {
    if (this.#id !== null && this.#link.acts()) focus(this.#input);
  }

  async #sendAll() {
    const files = [...this.#input.files];
    const large = files.find(({ size }) => size > FILE_LIMIT);
    if (files.length === 0) this.#tell('No file is chosen yet.');
    else if (files.length > COUNT_LIMIT) this.#tell(`These are more than ${COUNT_LIMIT} files.`);
    else if (large) this.#tell(`${large.name} is larger than ${bytes(FILE_LIMIT)}.`);
    else await this.#upload(files, this.#stop.signal);
  }

  /** One after the other. @param {File[]} files @param {AbortSignal} signal */
  async #upload(files, signal) {
    /** @type {string[]} */
    const paths = [];
    let sent = 0;
    this.#bar.max = files.reduce((sum, { size }) => sum + size, 0) || 1;
    this.#bar.value = 0;
    this.#showSending(true);
    try {
      for (const file of files) {
        this.#tell(`Sending ${file.name}`);
        const progress = (/** @type {number} */ count) => {
          if (!signal.aborted) this.#bar.value = sent + count;
        };
        paths.push(await this.#files.upload(file, progress, signal));
        sent += file.size;
      }
      if (signal.aborted) return;
      if (!this.#link.acts()) throw new Error('control was given back meanwhile');
      this.#answer(paths);
    } catch (error) {
      if (signal.aborted) return;
      this.#tell(`This was not sent: ${/** @type {Error} */ (error).message}.`);
      this.#showSending(false);
    }
  }

  /** @param {boolean} isSending */
  #showSending(isSending) {
    this.#bar.hidden = !isSending;
    this.#input.hidden = isSending;
    this.#send.hidden = isSending;
  }

  /** @param {string} text */
  #tell(text) {
    this.#state.textContent = text;
  }

  /** Likewise. @param {string[]} paths */
  #answer(paths) {
    if (this.#id === null || !this.#link.acts()) return;
    this.#link.act({ type: 'chosen', id: this.#id, paths });
  }
}
