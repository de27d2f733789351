// The page as HTML, evaluated in a world of its own. Elements nested deeper than Chromium's own parser would
// ever nest them, which scripts can do, are left out and their text is kept: parsers need time that
// grows with the square of the depth.
// biome-ignore lint/correctness/noUnusedVariables: called by what is put behind it
function page(most, deepest) {
  const root = document.documentElement;
  if (!root) return { html: '', url: location.href };
  const shown = isDeeper(root, deepest) ? shallow(root, deepest) : root;
  const doctype = document.doctype ? new XMLSerializer().serializeToString(document.doctype) : '';
  const html = doctype + shown.outerHTML;
  return html.length > most ? { length: html.length } : { html, url: location.href };
}

function isDeeper(root, deepest) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT);
  for (let depth = 0; depth <= deepest; ) {
    if (walker.firstChild()) {
      depth += 1;
      continue;
    }
    while (!walker.nextSibling()) {
      if (depth === 0 || !walker.parentNode()) return false;
      depth -= 1;
    }
  }
  return true;
}

// A copy. Chromium's own uses its stack and crashes on what is deep.
function shallow(root, deepest) {
  const copy = root.cloneNode(false);
  const left = [[root, copy, 0]];
  while (left.length > 0) {
    const [from, to, depth] = left.pop();
    if (depth === deepest) {
      to.append(from.textContent);
      continue;
    }
    for (const child of from.childNodes) {
      const made = to.appendChild(child.cloneNode(false));
      if (child.firstChild) left.push([child, made, depth + 1]);
    }
  }
  return copy;
}
