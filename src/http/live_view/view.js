// @ts-check
/**
 * The live view: joins connection, picture, input and panels. What is sent to the session, and
 * whether, is decided here: see `act`.
 *
 * The token is the fragment of this page's address, which no request carries. Nothing may set
 * location.hash or follow a link to `#…`: a reload needs it there.
 */
import { Bar } from './bar.js';
import { writeClipboard } from './clipboard.js';
import { Connection } from './connection.js';
import { Ask, Chooser } from './dialogs.js';
import { Downloads, Files } from './files.js';
import { Keyboard } from './keyboard.js';
import { SelectList } from './list.js';
import { note } from './notes.js';
import { focus, part } from './parts.js';
import { Picture } from './picture.js';
import { Pointer } from './pointer.js';

/** @typedef {import('./connection.js').Phase} Phase */

/** Milliseconds that the frame must keep its size before the server is told. */
const SIZE_PAUSE = 150;
/** Milliseconds between two looks at the meters. */
const TICK = 1000;
/** Milliseconds in which a selection comes, if there is one. */
const COPY_PATIENCE = 1500;
/** Milliseconds before the session's end at which the person is told. */
const WARNING = 60_000;

const token = location.hash.slice(1);
const base = folder();
const frame = part('frame');
const keys = part('keys');

/** What the token allows, once the server has said it. @type {'' | 'view' | 'control'} */
let may = '';
/** @type {import('./bar.js').State | undefined} */
let state;
let isActing = false;
/** Whether this viewer has asked for control and should type at once when it comes. */
let isAsking = false;
/** The page's cursor. */
let cursor = '';
/** Tells who pressed the button to copy that no selection has come. */
let copyTimer = 0;
/** Why the session ended, as it said itself. */
let ending = '';
/** When the session ends, on this page's own clock; 0 before that is known. */
let endsAt = 0;
/** Whether the person was told of the end. */
let isWarned = false;

const picture = new Picture(part('picture'), frame, (number) =>
  connection.send({ type: 'ack', frame: number }),
);
const link = { acts, act, control, back, left, pressed, isBehind: () => connection.isBehind };
const files = new Files(base, token);
const downloads = new Downloads(files);
const keyboard = new Keyboard(keys, act);
const ask = new Ask(link);
const chooser = new Chooser(files, link);
const list = new SelectList(picture, link);
const bar = new Bar(link);
new Pointer(part('picture'), picture, link);

/** By the type of the message. @type {Record<string, (message: any) => void>} */
const receive = {
  __proto__: /** @type {any} */ (null),
  welcome,
  state: showState,
  blank: () => picture.blank(),
  dialog: (message) => ask.show(message, hostOf(state?.url)),
  select: (message) => list.show(message),
  chooser: (message) => chooser.show(message),
  download: (message) => downloads.show(message),
  cursor: ({ css }) => {
    cursor = css;
    showCursor();
  },
  clipboard: ({ text }) => copied(text),
  note: ({ text }) => showNote(text),
  end: ({ reason }) => {
    ending = reason ?? '';
  },
};

const connection = new Connection(
  socketAddress(),
  () => ({ type: 'hello', token, ...frameSize() }),
  {
    phase: showPhase,
    message: (message) => receive[message.type]?.(message),
    picture: (bytes) => picture.show(bytes),
  },
);

// What may be sent.

/** Whether input reaches the session: the token allows it, and this viewer is in control. */
function acts() {
  return may === 'control' && state?.control.holder === 'you' && connection.isOpen;
}

/** The only way out for input. The server closes a view connection that sends any. @param {object} message */
function act(message) {
  if (acts()) connection.send(message);
}

/** @param {'request' | 'release'} what */
function control(what) {
  isAsking = what === 'request';
  if (may === 'control') connection.send({ type: 'control', do: what });
}

// What arrives.

/** @param {{may: string}} message */
function welcome(message) {
  may = message.may === 'control' ? 'control' : 'view';
  document.body.dataset.may = may;
  if (document.hidden) connection.send({ type: 'visible', is: false });
}

/** @param {import('./bar.js').State} message */
function showState(message) {
  state = message;
  endsAt = performance.now() + message.left;
  bar.show(message);
  part('crash').hidden = !message.crashed;
  showActing();
  showRest();
}

/** Everything that acts is off while somebody else is in control. */
function showActing() {
  if (isActing === acts()) return;
  isActing = acts();
  keyboard.release();
  document.body.toggleAttribute('data-acting', isActing);
  enable();
  bar.update();
  showCursor();
  if (isAsking && isActing) back();
  if (isActing) isAsking = false;
  for (const panel of [list, ask, chooser]) panel.update();
}

function enable() {
  keys.disabled = !isActing;
  /** @type {HTMLButtonElement} */ for (const element of document.querySelectorAll('[data-acts]'))
    element.disabled = !isActing;
}

/** Keywords only: a cursor of an image would be fetched from here. */
function showCursor() {
  part('picture').style.cursor = isActing && /^[a-z-]+$/.test(cursor) ? cursor : '';
}

/** @param {string} text */
function copied(text) {
  if (!text) return;
  clearTimeout(copyTimer);
  writeClipboard(text);
}

/** By the button. A key says nothing when nothing is selected: it may mean something else to the page. */
function copy() {
  const tell = () => note('Nothing is selected on the page.');
  clearTimeout(copyTimer);
  copyTimer = setTimeout(tell, COPY_PATIENCE);
  act({ type: 'copy' });
}

/** @param {string} text */
function showNote(text) {
  note(text);
  bar.letTake();
}

/** @param {Phase} phase */
function showPhase(phase) {
  part('link').dataset.phase = phase.name;
  part('link').textContent = {
    connecting: phase.attempt > 0 ? 'Reconnecting' : 'Connecting',
    open: 'Live',
    waiting: 'Reconnecting',
    over: phase.code === 1000 ? 'Ended' : 'Not connected',
  }[phase.name];
  if (phase.name === 'open') cover('', '');
  else disconnected(phase);
}

/** The last picture stays to be seen; what could be pressed goes. @param {Phase} phase */
function disconnected(phase) {
  picture.restart();
  ask.hide();
  list.hide();
  chooser.hide();
  part('crash').hidden = true;
  state = undefined;
  showActing();
  bar.lose();
  showRest();
  const [title, text] = describe(phase);
  cover(title, text, phase.name === 'over' && phase.code !== 1000 && phase.code !== 1008);
}

/** @param {Phase} phase @returns {[string, string]} */
function describe({ name, attempt, code, reason }) {
  if (name === 'over' && code === 1000) return ['The session has ended', ending || reason];
  if (name === 'over' && code === 1008)
    return ['This link does not open the session', reason || 'It may be revoked or expired.'];
  const next = name === 'over' ? '' : 'Trying again.';
  if (code === 1013) return ['Too many people are watching', next];
  if (name === 'over') return ['The session cannot be reached', reason];
  return attempt > 0 ? ['No connection to the session', next] : ['Connecting to the session', ''];
}

/** @param {string} title none takes the cover away @param {string} text @param {boolean} canRetry */
function cover(title, text, canRetry = false) {
  part('cover').hidden = title === '';
  part('cover-title').textContent = title;
  part('cover-text').textContent = text;
  part('again').hidden = !canRetry;
}

// Focus.

/** The keys go to the session's page from here on. */
function toPage() {
  if (acts()) focus(keys);
}

/** Away from the toolbar or a panel. With touch, the field would open the on-screen keyboard. */
function back() {
  if (matchMedia('(pointer: fine)').matches) toPage();
  else unfocus();
}

function unfocus() {
  /** @type {HTMLElement | null} */ (document.activeElement)?.blur();
}

/** A panel closes: its focus goes back to the page. @param {HTMLElement} panel */
function left(panel) {
  if (panel.contains(document.activeElement)) back();
}

/** A button or a finger came down on the picture. @param {PointerEvent} event */
function pressed(event) {
  if (!acts()) {
    if (state && may === 'control') note('Take control to click and type.');
    return;
  }
  placeKeys(event);
  if (event.pointerType !== 'touch') toPage();
  // A tap must not open the on-screen keyboard, but it closes that of the address field.
  else if (document.activeElement !== keys) unfocus();
}

/** Under the pointer, as input methods show their choices at the field. @param {PointerEvent} event */
function placeKeys({ clientX, clientY }) {
  const { left: x, top: y } = frame.getBoundingClientRect();
  keys.style.left = `${clientX - x}px`;
  keys.style.top = `${clientY - y}px`;
}

/** The way out of the picture, where Tab belongs to the page, and back. @param {KeyboardEvent} event */
function switchSides(event) {
  const { key, ctrlKey, altKey, shiftKey, metaKey } = event;
  const isF6 = key === 'F6' && !ctrlKey && !altKey && !shiftKey && !metaKey;
  const isEscape = key === 'Escape' && ctrlKey && altKey;
  if (!acts() || !(isF6 || isEscape)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (document.activeElement === keys) focus(part('address'));
  else toPage();
}

function listenToKeyboardButton() {
  const button = part('keyboard');
  // The button must not take the focus, which is what opens and closes the keyboard.
  button.addEventListener('mousedown', (/** @type {Event} */ event) => event.preventDefault());
  button.addEventListener('click', () => {
    if (document.activeElement === keys) keys.blur();
    else toPage();
  });
  keys.addEventListener('focus', () => button.setAttribute('aria-pressed', 'true'));
  keys.addEventListener('blur', () => button.setAttribute('aria-pressed', 'false'));
}

// Size and time.

function frameSize() {
  const { clientWidth, clientHeight } = frame;
  return {
    width: Math.max(Math.round(clientWidth), 1),
    height: Math.max(Math.round(clientHeight), 1),
    dpr: devicePixelRatio,
  };
}

function listenToSize() {
  let timer = 0;
  const send = () => connection.send({ type: 'size', ...frameSize() });
  const changed = () => {
    picture.fit();
    list.fit();
    clearTimeout(timer);
    timer = setTimeout(send, SIZE_PAUSE);
  };
  new ResizeObserver(changed).observe(frame);
  listenToRatio(changed);
}

/** The frame may keep its size as the window goes to another screen. @param {() => void} changed */
function listenToRatio(changed) {
  const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
  const next = () => {
    changed();
    listenToRatio(changed);
  };
  query.addEventListener('change', next, { once: true });
}

/** On-screen keyboards that cover the page leave less of it than it has: iOS. */
function listenToViewport() {
  const viewport = visualViewport;
  viewport?.addEventListener('resize', () => {
    const isZoomed = Math.abs(viewport.scale - 1) > 0.01;
    const height = isZoomed ? '' : `${viewport.height}px`;
    document.documentElement.style.setProperty('--height', height);
  });
}

function tick() {
  bar.rate(picture.rate());
  showRest();
}

function showRest() {
  const rest = state ? endsAt - performance.now() : null;
  bar.rest(rest);
  if (rest === null || rest > WARNING || isWarned) return;
  isWarned = true;
  note('The session ends in less than a minute.');
}

// Addresses.

/** This page's address as a folder, behind whatever prefix a proxy gave it. */
function folder() {
  const address = new URL(location.href);
  address.hash = '';
  address.search = '';
  address.pathname = `${address.pathname.replace(/\/+$/, '')}/`;
  return address;
}

function socketAddress() {
  const address = new URL('socket', base);
  address.protocol = base.protocol === 'https:' ? 'wss:' : 'ws:';
  return address;
}

/** @param {string | undefined} url */
function hostOf(url) {
  try {
    return new URL(url ?? '').host;
  } catch {
    return '';
  }
}

/** Under the button it belongs to. @param {string} panel @param {string} button */
function placePanel(panel, button) {
  part(panel).addEventListener('beforetoggle', () => {
    const { bottom, right } = part(button).getBoundingClientRect();
    part(panel).style.top = `${bottom + 8}px`;
    part(panel).style.right = `${Math.max(document.documentElement.clientWidth - right, 8)}px`;
  });
}

function start() {
  enable();
  listenToSize();
  listenToViewport();
  listenToKeyboardButton();
  placePanel('downloads', 'downloads-button');
  placePanel('help', 'help-button');
  part('fit').addEventListener('click', () => {
    const { width, height } = frameSize();
    act({ type: 'resize', width, height });
  });
  part('copy').addEventListener('click', copy);
  part('revive').addEventListener('click', () => act({ type: 'reload' }));
  part('again').addEventListener('click', () => connection.start());
  addEventListener('keydown', switchSides, { capture: true });
  // Another token is another viewer.
  addEventListener('hashchange', () => location.reload());
  document.addEventListener('visibilitychange', () =>
    connection.send({ type: 'visible', is: !document.hidden }),
  );
  setInterval(tick, TICK);
  if (token) connection.start();
  else showPhase({ name: 'over', attempt: 0, code: 1008, reason: 'Its part behind # is missing.' });
}

start();
