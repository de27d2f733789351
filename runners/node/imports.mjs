// @ts-check
/** Turns imports into calls of `__pb.load` on the same lines (worker side, pure). */
import { CodeError } from './errors.mjs';

/** Functions handed to these methods run in the page, where `import()` is the browser's own. */
const IN_PAGE = new Set([
  'evaluate',
  'evaluateAll',
  'evaluateHandle',
  '$eval',
  '$$eval',
  'addInitScript',
  'waitForFunction',
]);

/**
 * @param {any} program @param {string} code
 * @param {import('./rewrite.mjs').Edit[]} edits
 */
export function collectImports(program, code, edits) {
  const visit = (/** @type {any} */ node) => {
    if (Array.isArray(node)) {
      for (const one of node) visit(one);
      return;
    }
    if (typeof node?.type !== 'string') return;
    if (node.type === 'ImportDeclaration') {
      const lines = code.slice(node.start, node.end).split('\n').length - 1;
      edits.push({
        start: node.start,
        end: node.end,
        text: staticImport(node) + '\n'.repeat(lines),
      });
      return;
    }
    if (node.type.startsWith('Export')) {
      const before = code.slice(0, node.start).split('\n');
      const message = 'export is not available here: code runs as a script, not as a module';
      throw new CodeError(message, before.length, /** @type {string} */ (before.at(-1)).length);
    }
    if (node.type === 'ImportExpression')
      edits.push({ start: node.start, end: node.start + 6, text: '__pb.load' });
    if (node.type === 'MetaProperty' && node.meta.name === 'import')
      edits.push({ start: node.start, end: node.end, text: '__pb.meta' });
    const inPage = node.type === 'CallExpression' && IN_PAGE.has(node.callee.property?.name ?? '');
    for (const key in node) {
      if (inPage && key === 'arguments')
        visit(node.arguments.filter((/** @type {any} */ one) => !one.type.includes('Function')));
      else if (typeof node[key] === 'object') visit(node[key]);
    }
  };
  visit(program.body);
}

/** @param {any} node @returns {string} */
function staticImport(node) {
  const attributes = (node.attributes ?? []).map(
    (/** @type {any} */ one) =>
      `${JSON.stringify(one.key.name ?? one.key.value)}:${JSON.stringify(one.value.value)}`,
  );
  const names = [];
  let whole = '';
  for (const one of node.specifiers) {
    if (one.type === 'ImportNamespaceSpecifier') whole = one.local.name;
    else names.push([one.imported?.name ?? one.imported?.value ?? 'default', one.local.name]);
  }
  const wanted = JSON.stringify(names.map(([name]) => name));
  const from = `await __pb.load(${JSON.stringify(node.source.value)},{with:{${attributes}}},${wanted})`;
  if (!whole && !names.length) return `void ${from};`;
  const picked = `{${names.map(([name, local]) => `${JSON.stringify(name)}:${local}`)}}`;
  if (!whole) return `const ${picked}=${from};`;
  return `const ${whole}=${from}${names.length ? `,${picked}=${whole}` : ''};`;
}
