// @ts-check
/**
 * Mouse, wheel and touch over the picture, as messages in the page's coordinates. Moves and turns of
 * the wheel are sent once per animation frame at most, the newest or the sum: there is no queue.
 */
import { isApple, modifiersOf } from './keyboard.js';

/** By MouseEvent.button, and the bit of each in MouseEvent.buttons. */
const BUTTONS = ['left', 'middle', 'right', 'back', 'forward'];
/** @type {Record<string, number>} */
const BITS = { left: 1, right: 2, middle: 4, back: 8, forward: 16 };
/** CSS pixels of a line, for wheels that count in lines. */
const LINE = 40;

/**
 * What the pointer needs of the page around it: whether it may act, where messages go, whether they
 * pile up, and who wants to know of a press.
 * @typedef {object} Link
 * @property {() => boolean} acts
 * @property {(message: object) => void} act
 * @property {() => boolean} isBehind
 * @property {(event: PointerEvent) => void} pressed
 */

export class Pointer {
  #canvas;
  #picture;
  #link;
  /** Buttons that are down, by MouseEvent.button. @type {Map<number, string>} */
  #held = new Map();
  #clicks = 0;
  /** Where the pointer is: pointer events have fractions of a pixel, those of the mouse have none. */
  #at = { clientX: 0, clientY: 0 };
  /** What pressed last: mouse, pen or touch. */
  #kind = '';
  /** Fingers on the glass, by pointerId. @type {Map<number, {id: number, x: number, y: number}>} */
  #fingers = new Map();
  /** What waits for the next animation frame. @type {{type: string}[]} */
  #move = [];
  /** @type {{dx: number, dy: number}[]} */
  #wheel = [];
  #isDue = false;

  /**
   * @param {HTMLCanvasElement} canvas @param {import('./picture.js').Picture} picture
   * @param {Link} link
   */
  constructor(canvas, picture, link) {
    this.#canvas = canvas;
    this.#picture = picture;
    this.#link = link;
    canvas.addEventListener('pointerdown', (event) => this.#pressed(event));
    canvas.addEventListener('pointermove', (event) => this.#fingerMoved(event));
    canvas.addEventListener('pointerup', (event) => this.#fingerLeft('end', event));
    canvas.addEventListener('pointercancel', (event) => this.#fingerLeft('cancel', event));
    canvas.addEventListener('mousedown', (event) => this.#down(event));
    canvas.addEventListener('wheel', (event) => this.#turned(event), { passive: false });
    for (const type of ['pointerdown', 'pointermove', 'pointerup'])
      addEventListener(type, (event) => this.#placed(/** @type {PointerEvent} */ (event)), true);
    // A second button of a drag, or its end, may be anywhere.
    addEventListener('mousemove', (event) => this.#moved(event));
    addEventListener('mouseup', (event) => this.#up(event));
    for (const type of ['contextmenu', 'auxclick', 'dragstart'])
      canvas.addEventListener(type, (event) => link.acts() && event.preventDefault());
  }

  /** @param {PointerEvent} event */
  #pressed(event) {
    this.#kind = event.pointerType;
    this.#link.pressed(event);
    if (!this.#link.acts()) return;
    if (event.pointerType === 'touch') this.#fingerCame(event);
    else this.#canvas.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  #placed({ clientX, clientY }) {
    this.#at = { clientX, clientY };
  }

  /** @param {MouseEvent} event */
  #exact(event) {
    const off = Math.hypot(event.clientX - this.#at.clientX, event.clientY - this.#at.clientY);
    return off < 1.5 ? this.#at : event;
  }

  // Mouse. Its own events and not pointer events, as those count neither clicks nor further buttons.

  /** @param {MouseEvent} event */
  #down(event) {
    if (!this.#link.acts()) return;
    event.preventDefault(); // the focus stays with the keyboard's field
    const button = buttonOf(event);
    // Some browsers repeat a tap as a mouse, whatever is prevented.
    if (!button || this.#kind === 'touch') return;
    this.#held.set(event.button, button);
    this.#clicks = Math.max(event.detail, 1);
    this.#flush();
    this.#link.act(this.#mouse('down', event, button));
  }

  /** @param {MouseEvent} event */
  #up(event) {
    const button = this.#held.get(event.button);
    if (!button) return;
    event.preventDefault(); // the fourth button would go back in this browser
    this.#held.delete(event.button);
    this.#flush();
    this.#link.act(this.#mouse('up', event, button));
  }

  /** @param {MouseEvent} event */
  #moved(event) {
    if (event.buttons === 0) this.#releaseAll(event);
    if (event.target !== this.#canvas && this.#held.size === 0) return;
    if (!this.#link.acts()) return;
    const [button = 'none'] = this.#held.values();
    this.#move = [{ ...this.#mouse('move', event, button), clicks: 0 }];
    this.#schedule();
  }

  /** Buttons that came up where nobody told us: in another window, or under a dialog. @param {MouseEvent} event */
  #releaseAll(event) {
    for (const [number, button] of this.#held) {
      this.#held.delete(number);
      this.#link.act(this.#mouse('up', event, button));
    }
  }

  /** Also with Ctrl, as maps zoom by it. @param {WheelEvent} event */
  #turned(event) {
    if (!this.#link.acts()) return;
    event.preventDefault();
    const unit = [1, LINE, this.#picture.height][event.deltaMode] ?? 1;
    const [before] = this.#wheel;
    const dx = (before?.dx ?? 0) + event.deltaX * unit;
    const dy = (before?.dy ?? 0) + event.deltaY * unit;
    this.#wheel = [{ ...this.#mouse('wheel', event, 'none'), clicks: 0, dx, dy }];
    this.#schedule();
  }

  /** @param {string} kind @param {MouseEvent} event @param {string} button */
  #mouse(kind, event, button) {
    let buttons = 0;
    for (const held of this.#held.values()) buttons |= BITS[held];
    return {
      type: 'mouse',
      kind,
      ...this.#picture.toPage(this.#exact(event)),
      button,
      buttons,
      clicks: this.#clicks,
      dx: 0,
      dy: 0,
      modifiers: modifiersOf(event),
    };
  }

  // Touch. `points` are the fingers on the glass after the event, as TouchEvent.touches.

  /** @param {PointerEvent} event */
  #fingerCame(event) {
    event.preventDefault(); // or it would come again as a mouse, see #down
    const taken = new Set([...this.#fingers.values()].map(({ id }) => id));
    let id = 0;
    while (taken.has(id)) id += 1;
    this.#fingers.set(event.pointerId, { id, ...this.#picture.toPage(event) });
    this.#flush();
    this.#link.act(this.#touch('start', event));
  }

  /** @param {PointerEvent} event */
  #fingerMoved(event) {
    const finger = this.#fingers.get(event.pointerId);
    if (!finger) return;
    Object.assign(finger, this.#picture.toPage(event));
    this.#move = [this.#touch('move', event)];
    this.#schedule();
  }

  /** @param {'end' | 'cancel'} kind @param {PointerEvent} event */
  #fingerLeft(kind, event) {
    if (!this.#fingers.has(event.pointerId)) return;
    this.#flush();
    this.#fingers.delete(event.pointerId);
    this.#link.act(this.#touch(kind, event));
  }

  /** @param {string} kind @param {PointerEvent} event */
  #touch(kind, event) {
    const points = [...this.#fingers.values()].map((finger) => ({ ...finger }));
    return { type: 'touch', kind, points, modifiers: modifiersOf(event) };
  }

  #schedule() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      if (this.#link.isBehind()) this.#schedule();
      else this.#flush();
    });
  }

  /** Before anything else is sent, so that the page sees things in their order. */
  #flush() {
    for (const message of [...this.#move, ...this.#wheel]) this.#link.act(message);
    this.#move = [];
    this.#wheel = [];
  }
}

/** @param {MouseEvent} event */
function buttonOf(event) {
  // A Mac's way to press the right button.
  if (isApple && event.button === 0 && event.ctrlKey) return 'right';
  return BUTTONS[event.button];
}
