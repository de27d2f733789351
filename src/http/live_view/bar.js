// @ts-check
/**
 * All around the picture that shows the session's state: tabs, address, who is in control, meters. It
 * draws what it is given, whole, and sends what is pressed.
 */
import { focus, icon, make, part } from './parts.js';

/**
 * @typedef {{id: unknown, title: string, url: string, active: boolean}} Tab
 * @typedef {{holder: 'code' | 'you' | 'someone', waiting: number, reason: string | null}} Control
 * @typedef {{tabs: Tab[], url: string, title: string, loading: boolean, crashed: boolean, back: boolean, forward: boolean, control: Control, left: number, viewers: number}} State
 * @typedef {{acts: () => boolean, act: (message: object) => void, control: (what: 'request' | 'release') => void, back: () => void}} Link
 */

const HOLDERS = {
  code: 'Code is in control',
  you: 'You are in control',
  someone: 'Someone else is in control',
};
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

export class Bar {
  #link;
  #tabs;
  #address = part('address');
  /** Whether what is in the address field was typed. */
  #isTyped = false;
  #url = '';
  /** @type {State | undefined} */
  #state;

  /** @param {Link} link */
  constructor(link) {
    this.#link = link;
    this.#tabs = new Tabs(link);
    const { act } = link;
    onClick('new-tab', () => act({ type: 'tab', do: 'new' }));
    onClick('back', () => act({ type: 'history', by: -1 }));
    onClick('forward', () => act({ type: 'history', by: 1 }));
    onClick('reload', () => act({ type: this.#state?.loading ? 'stop' : 'reload' }));
    onClick('take', () => this.#take());
    onClick('give', () => link.control('release'));
    this.#listenToAddress();
  }

  /** @param {State} state */
  show(state) {
    this.#state = state;
    this.#url = state.url === 'about:blank' ? '' : state.url;
    this.#tabs.show(state.tabs);
    this.#showControl(state.control);
    this.#showReload(state.loading);
    this.update();
    this.#address.title = state.url;
    part('viewers').textContent = String(state.viewers);
    part('picture').setAttribute('aria-label', `The session’s page: ${state.title || state.url}`);
    document.title = `${state.title || state.url || 'Live view'} · Pagebox`;
  }

  /** What also depends on whether this viewer acts. */
  update() {
    const acts = this.#link.acts();
    part('back').disabled = !acts || !this.#state?.back;
    part('forward').disabled = !acts || !this.#state?.forward;
    this.#address.readOnly = !acts;
    if (!this.#isTyped || !acts) this.#resetAddress();
  }

  /** The connection is gone: nobody knows any more. */
  lose() {
    this.#state = undefined;
    say('holder', '');
    say('reason', '');
    this.#showReload(false);
    part('take').hidden = true;
    part('give').hidden = true;
    this.update();
  }

  /** A request that was refused can be made again. */
  letTake() {
    part('take').disabled = false;
  }

  /** @param {number} rate pictures per second */
  rate(rate) {
    part('rate').textContent = `${Math.round(rate)} fps`;
  }

  /** @param {number | null} rest milliseconds of the session */
  rest(rest) {
    part('left-meter').hidden = rest === null;
    if (rest !== null) part('left').textContent = duration(Math.max(rest, 0));
  }

  #take() {
    part('take').disabled = true;
    this.#link.control('request');
  }

  #listenToAddress() {
    const field = this.#address;
    field.addEventListener('focus', () => field.select());
    field.addEventListener('input', () => {
      this.#isTyped = true;
    });
    field.addEventListener('blur', () => this.#resetAddress());
    field.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
      if (event.isComposing) return;
      if (event.key === 'Enter') this.#navigate();
      else if (event.key === 'Escape') this.#resetAddress();
    });
  }

  #navigate() {
    const url = toUrl(this.#address.value.trim());
    if (!url || this.#address.readOnly) return;
    this.#isTyped = false;
    this.#link.act({ type: 'navigate', url });
    this.#link.back();
  }

  #resetAddress() {
    this.#isTyped = false;
    if (this.#address.value !== this.#url) this.#address.value = this.#url;
  }

  /** @param {boolean} isLoading */
  #showReload(isLoading) {
    const name = isLoading ? 'Stop' : 'Reload';
    part('reload').setAttribute('aria-label', name);
    part('reload').title = name;
    part('reload-icon').setAttribute('href', isLoading ? '#icon-stop' : '#icon-reload');
    part('loading').classList.toggle('is-loading', isLoading);
  }

  /** @param {Control} control */
  #showControl({ holder, waiting, reason }) {
    const isYours = holder === 'you';
    const others = waiting > 0 ? ` · ${waiting} waiting` : '';
    const wish = isYours ? 'Asked of you' : 'Code asks for help';
    say('holder', `${HOLDERS[holder]}${others}`);
    say('reason', reason ? `${wish}: ${reason}` : '');
    part('holder').dataset.holder = holder;
    part('take').textContent = holder === 'someone' ? 'Ask for control' : 'Take control';
    this.letTake();
    swap(part('take'), part('give'), isYours);
  }
}

/** The tab strip. Its elements stay as long as their tabs, so that the focus does. */
class Tabs {
  #link;
  #list = part('tabs');
  /** @type {Map<unknown, {item: any, title: any, close: any}>} */
  #known = new Map();
  /** @type {unknown} */
  #active;

  /** @param {Link} link */
  constructor(link) {
    this.#link = link;
  }

  /** @param {Tab[]} tabs */
  show(tabs) {
    this.#removeOthers(new Set(tabs.map(({ id }) => id)));
    for (const [at, tab] of tabs.entries()) {
      const shown = this.#known.get(tab.id) ?? this.#make(tab.id);
      fill(shown, tab);
      if (this.#list.children[at] !== shown.item)
        this.#list.insertBefore(shown.item, this.#list.children[at] ?? null);
    }
    const active = tabs.find((tab) => tab.active);
    if (!active || active.id === this.#active) return;
    this.#active = active.id;
    this.#reveal(this.#known.get(active.id)?.item);
  }

  /** @param {Set<unknown>} ids */
  #removeOthers(ids) {
    for (const [id, { item }] of this.#known) {
      if (ids.has(id)) continue;
      const next = item.nextElementSibling ?? item.previousElementSibling;
      const hadFocus = item.contains(document.activeElement);
      item.remove();
      this.#known.delete(id);
      if (hadFocus) focus(next?.firstElementChild ?? part('new-tab'));
    }
  }

  /** @param {unknown} id */
  #make(id) {
    const { act } = this.#link;
    const title = make('button', { type: 'button', className: 'tab-title' });
    title.addEventListener('click', () => act({ type: 'tab', do: 'activate', id }));
    // As in browsers: the middle button closes.
    title.addEventListener('auxclick', (/** @type {MouseEvent} */ event) => {
      if (event.button === 1) act({ type: 'tab', do: 'close', id });
    });
    const close = make('button', { type: 'button', className: 'plain tab-close control-only' });
    close.append(icon('stop'));
    close.addEventListener('click', () => act({ type: 'tab', do: 'close', id }));
    const item = make('li', { className: 'tab' }, title, close);
    const made = { item, title, close };
    this.#known.set(id, made);
    for (const button of [title, close]) {
      button.dataset.acts = '';
      button.disabled = !this.#link.acts();
    }
    return made;
  }

  /** Not by scrollIntoView, which would also scroll the page this one may be framed in. @param {HTMLElement | undefined} item */
  #reveal(item) {
    if (!item) return;
    const { offsetLeft, offsetWidth } = item;
    const { scrollLeft, clientWidth } = this.#list;
    const end = offsetLeft + offsetWidth;
    if (offsetLeft < scrollLeft) this.#list.scrollLeft = offsetLeft;
    else if (end > scrollLeft + clientWidth) this.#list.scrollLeft = end - clientWidth;
  }
}

/** @param {{item: any, title: any, close: any}} shown @param {Tab} tab */
function fill({ item, title, close }, tab) {
  const name = tab.title || tab.url || 'New tab';
  if (title.textContent !== name) title.textContent = name;
  title.title = tab.url ? `${name}\n${tab.url}` : name;
  close.setAttribute('aria-label', `Close ${name}`);
  item.classList.toggle('is-active', tab.active);
  if (tab.active) title.setAttribute('aria-current', 'true');
  else title.removeAttribute('aria-current');
}

/** Live regions are read out anew at each write: only what changed is written. @param {string} id @param {string} text */
function say(id, text) {
  if (part(id).textContent !== text) part(id).textContent = text;
}

/** One of two buttons in the same place; the focus stays there. @param {HTMLElement} first @param {HTMLElement} second @param {boolean} isSecond */
function swap(first, second, isSecond) {
  const [shown, gone] = isSecond ? [second, first] : [first, second];
  const hadFocus = document.activeElement === gone;
  shown.hidden = false;
  gone.hidden = true;
  if (hadFocus) focus(shown);
}

/** @param {string} id @param {() => void} run */
function onClick(id, run) {
  part(id).addEventListener('click', run);
}

/** What was typed, with the scheme that is meant when it has none. @param {string} typed */
function toUrl(typed) {
  const isAddress = /^[a-z][a-z\d+.-]*:(?!\d+(\/|\?|#|$))/i.test(typed);
  if (typed === '' || isAddress) return typed;
  const isLocal = /^(localhost|\d+\.\d+\.\d+\.\d+|\[[\da-f:.]+\])(?=[:/?#]|$)/i.test(typed);
  return `${isLocal ? 'http' : 'https'}://${typed}`;
}

/** @param {number} milliseconds */
function duration(milliseconds) {
  if (milliseconds < 2 * MINUTE) return `${Math.ceil(milliseconds / 1000)} s`;
  const minutes = Math.floor((milliseconds % HOUR) / MINUTE);
  const hours = Math.floor(milliseconds / HOUR);
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min`;
}
