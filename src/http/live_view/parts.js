// @ts-check
/**
 * The parts of index.html by their ids, and new elements. What a session says (titles, addresses,
 * messages, names) becomes text nodes here and is never read as HTML.
 */

const SVG = 'http://www.w3.org/2000/svg';

/** @param {string} id @returns {any} any, as the caller knows which element it is */
export function part(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/**
 * @param {string} tag @param {Record<string, unknown>} properties of the element, as `className`
 * @param {(Node | string)[]} children @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** @param {string} name of a symbol in index.html */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Focus that does not scroll the page this one may be framed in. @param {HTMLElement} element */
export function focus(element) {
  element.focus({ preventScroll: true });
}
