// The page as HTML, evaluated in a world of its own. Elements nested deeper than Chromium's own parser
// would ever nest them, which scripts can do, are left out and their text is kept: parsers need time that grows
// with the square of the depth.
// biome-ignore lint/correctness/noUnusedVariables: called by what is put behind it
function page(most, deepest) {
  const root = document.documentElement;
  if (!root) return { html: '', url: location.href };
  // Calls `visit` with each element that lies exactly at `deepest` and has elements in it.
  const atTheBottom = (top, visit) => {
    const walker = document.createTreeWalker(top, NodeFilter.SHOW_ELEMENT);
    for (let depth = 0; ; ) {
      const node = walker.currentNode;
      if (depth === deepest && node.firstElementChild) visit(node);
      if (depth < deepest && walker.firstChild()) {
        depth += 1;
        continue;
      }
      while (!walker.nextSibling()) {
        if (depth === 0 || !walker.parentNode()) return;
        depth -= 1;
      }
    }
  };
  let isDeep = false;
  atTheBottom(root, () => {
    isDeep = true;
  });
  const shown = isDeep ? root.cloneNode(true) : root;
  if (isDeep) atTheBottom(shown, (node) => node.replaceChildren(node.textContent));
  const doctype = document.doctype ? new XMLSerializer().serializeToString(document.doctype) : '';
  const html = doctype + shown.outerHTML;
  return html.length > most ? { length: html.length } : { html, url: location.href };
}
