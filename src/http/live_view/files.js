// @ts-check
/** Files to the session and from it, and the panel of downloads. The token goes in a header only. */
import { note } from './notes.js';
import { make, part } from './parts.js';

/** Bytes of one file, as the server has it. */
export const FILE_LIMIT = 100 * 1024 * 1024;
/** Files for one chooser, likewise. */
export const COUNT_LIMIT = 64;
/** Downloads in the panel; the oldest goes. */
const DOWNLOAD_LIMIT = 50;
/** Milliseconds until a saved file's memory is given back: browsers begin to read it after the click. */
const SAVE_TIME = 60_000;

export class Files {
  #address;
  #token;

  /** @param {URL} base this page as a folder @param {string} token */
  constructor(base, token) {
    this.#address = new URL('files', base);
    this.#token = token;
  }

  /**
   * By XMLHttpRequest, as fetch does not tell how much was sent.
   * @param {File} file @param {(sent: number) => void} progress in bytes @param {AbortSignal} signal
   * @returns {Promise<string>} its path in the session
   */
  upload(file, progress, signal) {
    return new Promise((done, fail) => {
      const request = new XMLHttpRequest();
      request.open('POST', this.#at('name', file.name));
      request.setRequestHeader('Authorization', `Bearer ${this.#token}`);
      request.setRequestHeader('Content-Type', 'application/octet-stream');
      request.upload.onprogress = ({ loaded }) => progress(loaded);
      request.onload = () => {
        const reply = parse(request.responseText);
        if (request.status < 300 && typeof reply.path === 'string') done(reply.path);
        else fail(new Error(failure(request.status, reply)));
      };
      request.onerror = () => fail(new Error('the connection was lost'));
      request.onabort = () => fail(new Error('stopped'));
      signal.addEventListener('abort', () => request.abort(), { once: true });
      request.send(file);
    });
  }

  /** @param {string} path in the session @param {string} name for the person's computer */
  async save(path, name) {
    const response = await fetch(this.#at('path', path), {
      headers: { Authorization: `Bearer ${this.#token}` },
      cache: 'no-store',
    });
    if (!response.ok) throw new Error(failure(response.status, parse(await response.text())));
    // Of no type a browser would show: as a document of this origin it could read the token.
    const blob = new Blob([await response.blob()], { type: 'application/octet-stream' });
    const address = URL.createObjectURL(blob);
    make('a', { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), SAVE_TIME);
  }

  /** @param {string} key @param {string} value */
  #at(key, value) {
    const address = new URL(this.#address);
    address.searchParams.set(key, value);
    return address;
  }
}

/** @typedef {{id: unknown, name: string, path: string, state: 'running' | 'done' | 'failed', received: number, total: number | null, old: boolean}} Download */

export class Downloads {
  #files;
  #button = part('downloads-button');
  #list = part('download-list');
  /** @type {Map<unknown, {item: any, state: string}>} */
  #known = new Map();

  /** @param {Files} files */
  constructor(files) {
    this.#files = files;
  }

  /** @param {Download} download */
  show(download) {
    const before = this.#known.get(download.id);
    const item = before?.item ?? make('li', { className: 'download' });
    this.#known.set(download.id, { item, state: download.state });
    this.#fill(item, download);
    if (!before) this.#add(item);
    // Not of what was over before this viewer came; what was over at once is told of like any other.
    const wasOver = download.old && download.state !== 'running';
    const isNews = before ? before.state !== download.state : !wasOver;
    if (isNews) note(news(download));
  }

  /** @param {HTMLElement} item */
  #add(item) {
    this.#button.hidden = false;
    this.#list.prepend(item);
    if (this.#known.size <= DOWNLOAD_LIMIT) return;
    const [[id, oldest]] = this.#known;
    oldest.item.remove();
    this.#known.delete(id);
  }

  /** @param {HTMLElement} item @param {Download} download */
  #fill(item, download) {
    const { name, state } = download;
    const title = make('span', { className: 'download-name', textContent: name, title: name });
    const about = make('span', { className: 'download-state', textContent: progress(download) });
    item.replaceChildren(title, about);
    if (state === 'running') item.append(meter(download));
    if (state === 'done') item.append(this.#saveButton(download));
  }

  /** @param {Download} download */
  #saveButton({ path, name }) {
    const button = make('button', { type: 'button', textContent: 'Save' });
    button.setAttribute('aria-label', `Save ${name}`);
    button.addEventListener('click', async () => {
      button.disabled = true;
      try {
        await this.#files.save(path, name);
      } catch (error) {
        note(`${name} could not be saved: ${/** @type {Error} */ (error).message}.`);
      }
      button.disabled = false;
    });
    return button;
  }
}

/** @param {Download} download */
function meter({ name, received, total }) {
  const bar = make('progress', { className: 'progress', max: total || 1 });
  if (total) bar.value = received;
  bar.setAttribute('aria-label', name);
  return bar;
}

/** @param {Download} download */
function news({ name, state }) {
  if (state === 'running') return `The page downloads ${name}.`;
  return state === 'done' ? `${name} is downloaded.` : `The download of ${name} failed.`;
}

/** @param {Download} download */
function progress({ state, received, total }) {
  if (state === 'failed') return 'Failed';
  if (state === 'done') return bytes(received);
  return total ? `${bytes(received)} of ${bytes(total)}` : bytes(received);
}

/** @param {number} count */
export function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let at = 0;
  let size = count || 0;
  for (; size >= 1024 && at < units.length - 1; at += 1) size /= 1024;
  return `${size < 10 && at > 0 ? size.toFixed(1) : Math.round(size)} ${units[at]}`;
}

/** @param {string} text @returns {any} */
function parse(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {}; // a proxy's page, perhaps
  }
}

/** @param {number} status @param {any} reply */
function failure(status, reply) {
  return typeof reply.error === 'string' ? reply.error : `the server answered ${status}`;
}
