// @ts-check
/**
 * A select list of the session's page. The browser there draws it outside of the page, so that no
 * picture has it: it is drawn here, in its place over the picture.
 */
import { focus, make, part } from './parts.js';

/** Milliseconds after which typing begins a new search. */
const SEARCH_PAUSE = 700;
/** CSS pixels of room below or above the field, under which the list takes the whole frame's height. */
const LEAST_ROOM = 280;
const PAGE = 10;

/**
 * @typedef {{label: string, group: string | null, selected: boolean, disabled: boolean}} Option
 * @typedef {{id: unknown, box: {x: number, y: number, width: number, height: number}, multiple: boolean, options: Option[]}} Select
 */

export class SelectList {
  #place = part('list');
  #picture;
  #link;
  /** @type {Select | undefined} */
  #open;
  /** @type {Set<number>} */
  #chosen = new Set();
  /** The option that Enter would choose; -1 for none. */
  #at = -1;
  #search = '';
  #searchedAt = 0;
  /** @type {any} */
  #listbox;
  /** @type {any[]} */
  #items = [];

  /**
   * @param {import('./picture.js').Picture} picture
   * @param {{acts: () => boolean, act: (message: object) => void, left: (from: HTMLElement) => void}} link
   */
  constructor(picture, link) {
    this.#picture = picture;
    this.#link = link;
    this.#place.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) =>
      this.#keyDown(event),
    );
    part('veil').addEventListener('pointerdown', () => this.#answer(null));
  }

  /** @param {Select | {id: null}} message */
  show(message) {
    this.hide();
    if (message.id === null || !('options' in message)) return;
    this.#open = message;
    this.#at = -1;
    this.#search = '';
    this.#chosen = new Set(message.options.flatMap(({ selected }, at) => (selected ? [at] : [])));
    this.#build(message);
    this.#place.hidden = false;
    this.fit();
    const [first = this.#step(-1, 1)] = this.#chosen;
    this.#goTo(first);
    this.update();
  }

  hide() {
    if (!this.#open) return;
    this.#open = undefined;
    this.#items = [];
    this.#link.left(this.#place);
    this.#place.hidden = true;
    this.#place.replaceChildren();
  }

  /** Who only watches sees the list and can do nothing with it. */
  update() {
    this.#place.inert = !this.#link.acts();
    if (this.#open && !this.#place.inert) focus(this.#listbox);
  }

  /** Below its field, or above where there is more room. */
  fit() {
    if (!this.#open) return;
    const { x, y, width, height } = this.#picture.toFrame(this.#open.box);
    const { style, offsetParent } = this.#place;
    const { clientWidth, clientHeight } = offsetParent;
    style.minWidth = `${Math.min(width, clientWidth)}px`;
    style.maxHeight = 'none';
    const wanted = this.#place.offsetHeight;
    const below = clientHeight - y - height;
    const isAbove = below < wanted && y > below;
    const room = isAbove ? y : below;
    const most = room < LEAST_ROOM ? clientHeight : room;
    const taken = Math.min(wanted, most);
    const top = isAbove ? y - taken : y + height;
    style.maxHeight = `${most}px`;
    style.top = `${clamp(top, clientHeight - taken)}px`;
    style.left = `${clamp(x, clientWidth - this.#place.offsetWidth)}px`;
  }

  /** @param {Select} select */
  #build({ options, multiple }) {
    this.#listbox = make('div', { className: 'options', role: 'listbox', tabIndex: 0 });
    this.#listbox.setAttribute('aria-label', 'Choices of the page');
    this.#listbox.setAttribute('aria-multiselectable', String(multiple));
    this.#items = options.map((option, at) => this.#item(option, at));
    for (const { name, items } of groups(options, this.#items))
      this.#listbox.append(...(name === null ? items : [group(name, items)]));
    this.#place.replaceChildren(this.#listbox);
    if (multiple) this.#place.append(this.#choices());
  }

  /** @param {Option} option @param {number} at */
  #item({ label, disabled }, at) {
    const item = make('div', { className: 'option', id: `option-${at}`, role: 'option' });
    item.textContent = label || '\u00a0';
    item.setAttribute('aria-selected', String(this.#chosen.has(at)));
    if (disabled) item.setAttribute('aria-disabled', 'true');
    item.addEventListener('pointermove', () => this.#mark(at));
    item.addEventListener('click', () => this.#choose(at));
    return item;
  }

  #choices() {
    const cancel = make('button', { type: 'button', textContent: 'Cancel' });
    const done = make('button', { type: 'button', className: 'main', textContent: 'Done' });
    cancel.addEventListener('click', () => this.#answer(null));
    done.addEventListener('click', () => this.#answer([...this.#chosen]));
    return make('div', { className: 'choices' }, cancel, done);
  }

  /** @param {KeyboardEvent} event */
  #keyDown(event) {
    if (event.key === 'Escape') {
      event.preventDefault();
      this.#answer(null);
      return;
    }
    if (event.target !== this.#listbox) return;
    if (this.#goByKey(event) || this.#chooseByKey(event) || this.#goByText(event))
      event.preventDefault();
  }

  /** @param {KeyboardEvent} event */
  #goByKey({ key }) {
    const last = this.#items.length;
    if (key === 'ArrowDown') this.#goTo(this.#step(this.#at, 1));
    else if (key === 'ArrowUp') this.#goTo(this.#step(this.#at, -1));
    else if (key === 'Home') this.#goTo(this.#step(-1, 1));
    else if (key === 'End') this.#goTo(this.#step(last, -1));
    else if (key === 'PageDown') this.#goTo(this.#step(Math.min(this.#at + PAGE, last - 1) - 1, 1));
    else if (key === 'PageUp') this.#goTo(this.#step(Math.max(this.#at - PAGE, 0) + 1, -1));
    else return false;
    return true;
  }

  /** Tab chooses too, as in the browser's own list; of several it goes on to the buttons. @param {KeyboardEvent} event */
  #chooseByKey({ key }) {
    const isSearching = this.#search !== '' && performance.now() - this.#searchedAt < SEARCH_PAUSE;
    const isChoice =
      key === 'Enter' || (key === ' ' && !isSearching) || (key === 'Tab' && !this.#open?.multiple);
    if (!isChoice) return false;
    if (key === 'Enter' && this.#open?.multiple) this.#answer([...this.#chosen]);
    else this.#choose(this.#at);
    return true;
  }

  /** Typing the beginning of a label leads to it; one letter repeated, to the next that begins so. @param {KeyboardEvent} event */
  #goByText({ key, ctrlKey, metaKey, altKey }) {
    if (key.length !== 1 || ctrlKey || metaKey || altKey) return false;
    const now = performance.now();
    this.#search = now - this.#searchedAt < SEARCH_PAUSE ? this.#search + key : key;
    this.#searchedAt = now;
    const isRepeated = [...this.#search].every((one) => one === key);
    const wanted = (isRepeated ? key : this.#search).toLowerCase();
    const options = this.#open?.options ?? [];
    const from = isRepeated ? this.#at + 1 : Math.max(this.#at, 0);
    for (let i = 0; i < options.length; i += 1) {
      const at = (from + i) % options.length;
      const { label, disabled } = options[at];
      if (disabled || !label.trim().toLowerCase().startsWith(wanted)) continue;
      this.#goTo(at);
      break;
    }
    return true;
  }

  /** The next option that may be chosen, or the same place when there is none. @param {number} from @param {1 | -1} by */
  #step(from, by) {
    const options = this.#open?.options ?? [];
    for (let at = from + by; at >= 0 && at < options.length; at += by)
      if (!options[at].disabled) return at;
    return this.#at;
  }

  /** @param {number} at */
  #goTo(at) {
    this.#mark(at);
    const item = this.#items[at];
    if (!item) return;
    // Not scrollIntoView, which would also scroll the page this one may be framed in.
    const outer = this.#listbox.getBoundingClientRect();
    const { top, bottom } = item.getBoundingClientRect();
    if (top < outer.top) this.#listbox.scrollTop -= outer.top - top;
    else if (bottom > outer.bottom) this.#listbox.scrollTop += bottom - outer.bottom;
  }

  /** @param {number} at */
  #mark(at) {
    if (this.#open?.options[at]?.disabled) return;
    this.#items[this.#at]?.classList.remove('at');
    this.#items[at]?.classList.add('at');
    this.#at = at;
    if (this.#items[at]) this.#listbox.setAttribute('aria-activedescendant', `option-${at}`);
  }

  /** @param {number} at */
  #choose(at) {
    if (!this.#open || this.#open.options[at]?.disabled) return;
    if (!this.#items[at]) this.#answer(null);
    else if (this.#open.multiple) this.#toggle(at);
    else this.#answer([at]);
  }

  /** @param {number} at */
  #toggle(at) {
    if (!this.#chosen.delete(at)) this.#chosen.add(at);
    this.#items[at].setAttribute('aria-selected', String(this.#chosen.has(at)));
  }

  /** @param {number[] | null} values null leaves all as it was */
  #answer(values) {
    if (!this.#open || !this.#link.acts()) return;
    const sorted = values && [...values].sort((a, b) => a - b);
    this.#link.act({ type: 'select', id: this.#open.id, values: sorted });
    this.hide();
  }
}

/** Neighbours of one group together. @param {Option[]} options @param {HTMLElement[]} items */
function groups(options, items) {
  /** @type {{name: string | null, items: HTMLElement[]}[]} */
  const all = [];
  for (const [at, option] of options.entries()) {
    const name = option.group || null;
    if (all.at(-1)?.name !== name || all.length === 0) all.push({ name, items: [] });
    all.at(-1)?.items.push(items[at]);
  }
  return all;
}

/** @param {string} name @param {HTMLElement[]} items */
function group(name, items) {
  const title = make('div', { className: 'group-title', textContent: name });
  title.setAttribute('aria-hidden', 'true');
  const whole = make('div', { role: 'group' }, title, ...items);
  whole.setAttribute('aria-label', name);
  return whole;
}

/** @param {number} value @param {number} most */
function clamp(value, most) {
  return Math.max(Math.min(value, most), 0);
}
