// @ts-check
/** Short notes to the person, read out politely, gone after a while. */
import { icon, make, part } from './parts.js';

/** More at once would cover the picture: the oldest goes. */
const NOTE_LIMIT = 4;
/** Milliseconds that a note stays, and how many more for each character to read. */
const STAY = 4000;
const STAY_PER_CHARACTER = 50;
const LONGEST_STAY = 20_000;
/** Characters; more is cut. */
const TEXT_LIMIT = 600;

/**
 * @param {string} text
 * @param {{label: string, run: () => void}} [action] a button; the note then stays until it is closed
 */
export function note(text, action) {
  const shown = text.length > TEXT_LIMIT ? `${text.slice(0, TEXT_LIMIT)}…` : text;
  const box = part('notes');
  // Said again it is the same note, not one more.
  for (const old of [...box.children]) if (old.dataset.text === shown) old.remove();
  const item = make('div', { className: 'note' }, make('span', { textContent: shown }));
  item.dataset.text = shown;
  const close = () => item.remove();
  if (action) item.append(actionButton(action, close));
  const button = make(
    'button',
    { type: 'button', className: 'plain', title: 'Close' },
    icon('stop'),
  );
  button.setAttribute('aria-label', 'Close');
  button.addEventListener('click', close);
  item.append(button);
  box.append(item);
  while (box.children.length > NOTE_LIMIT) box.firstElementChild.remove();
  if (!action) removeInTime(item, Math.min(STAY + shown.length * STAY_PER_CHARACTER, LONGEST_STAY));
}

/** @param {{label: string, run: () => void}} action @param {() => void} close */
function actionButton({ label, run }, close) {
  const onclick = () => {
    close();
    run();
  };
  return make('button', { type: 'button', className: 'main', textContent: label, onclick });
}

/** Not while it is pointed at or has the focus. @param {HTMLElement} item @param {number} stay */
function removeInTime(item, stay) {
  const attempt = () => {
    if (item.matches(':hover, :focus-within')) setTimeout(attempt, 1000);
    else item.remove();
  };
  setTimeout(attempt, stay);
}
