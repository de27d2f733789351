// @ts-check
/**
 * Turns one piece of user code into a script for V8's REPL mode (worker side, pure).
 *
 * The code becomes the body of a block, so its declarations keep their real meaning (temporal dead
 * zone, constness, closures) and the block's completion value is the result. A prefix on the first
 * line publishes every top-level name through an accessor on the global object, which is how later
 * executions see it and why they may declare it anew in any way. Nothing else moves a line.
 *
 * Names of built-ins (`const URL = …`) are never published globally, because Playwright and Node
 * share the realm: they are handed on from block to block (`__pb.kept`).
 */
import { parse } from 'acorn';
import { CodeError } from './errors.mjs';
import { collectImports } from './imports.mjs';

/** The global `__pb` has a short name because it stands in front of the user's first line. */
const WAIT = 'if(__pb.wait)await __pb.wait;';

/**
 * @typedef {{start: number, end: number, text: string}} Edit
 * @typedef {[line: number, column: number, added: number]} Shift
 * From this column on (from 0) of this line (from 1), the script has so many columns more than the code.
 * @typedef {{expression: string, shifts: Shift[], vars: string[], awaited: boolean, ends: boolean}} Script
 * `vars`: names that must exist as configurable
 * globals before the script is compiled. `awaited`: a promise as the result is waited for. `ends`:
 * unless it fails, it says its value to `__pb.end`, and nothing of it runs after that.
 */

/**
 * @param {string} code
 * @param {Set<string>} builtins names of the globals Node itself has
 * @param {Set<string>} kept those of them that user code has declared so far; grows
 * @returns {Script}
 */
export function rewrite(code, builtins, kept) {
  const program = parseCode(code);
  const found = survey(program.body);
  /** @type {Edit[]} */
  const edits = [];
  const vars = new Set(found.vars);
  for (const { node, names } of found.directVars) {
    // `var` can not shadow a global: a built-in's name needs `let`, which is as long.
    if (names.some((name) => builtins.has(name)) && !found.repeatedVars.size) {
      edits.push({ start: node.start, end: node.start + 3, text: 'let' });
      for (const name of names) {
        vars.delete(name);
        found.lexical.push(name);
      }
    }
  }
  if (/\b(?:import|export)\b/.test(code)) collectImports(program, code, edits);
  for (const node of found.returns) editReturn(node, code, edits);
  const last = program.body.findLast(
    (/** @type {any} */ node) => !/Declaration$|^EmptyStatement$/.test(node.type),
  );
  const awaited = last?.expression?.type !== 'AssignmentExpression';
  const ends = awaited && !found.returns.length && isTheEnd(last, program.body);
  if (last) boxValue(last, code, edits, ends ? '__pb.end(' : '__pb(');
  if (code.startsWith('#!')) edits.push({ start: 0, end: 2, text: '//' });

  const own = [...found.lexical, ...found.functions];
  const borrowed = [...kept].filter(
    (name) => !own.includes(name) && !vars.has(name) && code.includes(name),
  );
  for (const name of own) if (builtins.has(name)) kept.add(name);
  const published = [...new Set([...own, ...borrowed])];
  const directives = program.body
    .filter((/** @type {any} */ node) => node.directive)
    .map((/** @type {any} */ node) => `${node.expression.raw};`)
    .join('');
  // The outer `let` keeps sloppy functions from also becoming global variables (Annex B).
  const functions = [...new Set(found.functions)];
  const prefix = [
    directives,
    WAIT,
    found.returns.length ? '__cell:{' : '{',
    functions.length ? `let ${functions};{` : '',
    borrowed.length ? `let ${borrowed.map((name) => `${name}=__pb.kept("${name}")`)};` : '',
    published.length
      ? `__pb.publish([${published.map((name) => `["${name}",()=>${name},__v=>${name}=__v]`)}]);`
      : '',
  ].join('');
  const { text, shifts } = applyEdits(code, edits, prefix.length);
  return {
    expression: `${prefix}${text}\n}${functions.length ? '}' : ''}`,
    shifts,
    vars: [...vars],
    awaited,
    ends,
  };
}

/** Whether nothing runs after a statement of the top level, which is an expression. @param {any} last @param {any[]} body */
function isTheEnd(last, body) {
  if (last?.type !== 'ExpressionStatement' || last.directive) return false;
  const after = body.slice(body.indexOf(last) + 1);
  return (
    after.every(({ type }) => type === 'FunctionDeclaration' || type === 'EmptyStatement') &&
    // What `using` declares is disposed of at the end of the block.
    !body.some(({ kind }) => /using$/.test(kind))
  );
}

/** @param {string} code @returns {any} */
function parseCode(code) {
  try {
    return parse(code, {
      ecmaVersion: 'latest',
      sourceType: 'script',
      allowAwaitOutsideFunction: true,
      allowImportExportEverywhere: true,
      allowReturnOutsideFunction: true,
      allowHashBang: true,
    });
  } catch (error) {
    const { message, loc } = /** @type {any} */ (error);
    if (!loc) throw new CodeError(`The code is nested too deeply (${message})`, 1, 0);
    throw new CodeError(message.replace(/ \(\d+:\d+\)$/, ''), loc.line, loc.column);
  }
}

/**
 * Finds what the top level declares and where it returns; looks into statements, not functions.
 * @param {any[]} body
 */
function survey(body) {
  const found = {
    /** @type {string[]} */ lexical: [],
    /** @type {string[]} */ functions: [],
    /** @type {Set<string>} */ vars: new Set(),
    /** @type {Set<string>} */ repeatedVars: new Set(),
    /** @type {{node: any, names: string[]}[]} */ directVars: [],
    /** @type {any[]} */ returns: [],
  };
  for (const node of body) {
    if (node.type === 'FunctionDeclaration') found.functions.push(node.id.name);
    else if (node.type === 'ClassDeclaration') found.lexical.push(node.id.name);
    else if (node.type === 'VariableDeclaration' && node.kind !== 'var')
      found.lexical.push(...declared(node));
    else if (node.type === 'ImportDeclaration')
      found.lexical.push(...node.specifiers.map((/** @type {any} */ one) => one.local.name));
    else {
      if (node.type === 'VariableDeclaration')
        found.directVars.push({ node, names: declared(node) });
      visit(node);
    }
  }
  return found;

  /** @param {any} node */
  function visit(node) {
    if (Array.isArray(node)) {
      for (const item of node) visit(item);
      return;
    }
    switch (node?.type) {
      case 'VariableDeclaration':
        if (node.kind !== 'var') return;
        for (const name of declared(node)) {
          if (found.vars.has(name)) found.repeatedVars.add(name);
          found.vars.add(name);
        }
        return;
      case 'FunctionDeclaration':
        found.vars.add(node.id.name);
        return;
      case 'ReturnStatement':
        found.returns.push(node);
        return;
      case 'TryStatement':
        visit([node.block, node.handler?.body, node.finalizer]);
        return;
      case 'SwitchStatement':
        for (const one of node.cases) visit(one.consequent);
        return;
      case 'IfStatement':
        visit([node.consequent, node.alternate]);
        return;
      case 'ForStatement':
        visit([node.init, node.body]);
        return;
      case 'ForInStatement':
      case 'ForOfStatement':
        visit([node.left, node.body]);
        return;
      case 'BlockStatement':
      case 'LabeledStatement':
      case 'WhileStatement':
      case 'DoWhileStatement':
      case 'WithStatement':
        visit(node.body);
    }
  }
}

/** Names a variable declaration binds. @param {any} declaration @returns {string[]} */
function declared(declaration) {
  /** @type {string[]} */
  const names = [];
  const bind = (/** @type {any} */ pattern) => {
    if (!pattern) return;
    if (pattern.type === 'Identifier') names.push(pattern.name);
    else if (pattern.type === 'ObjectPattern')
      for (const one of pattern.properties) bind(one.value ?? one.argument);
    else if (pattern.type === 'ArrayPattern') for (const one of pattern.elements) bind(one);
    else bind(pattern.left ?? pattern.argument);
  };
  for (const one of declaration.declarations) bind(one.id);
  return names;
}

/**
 * `return x` becomes `{__pb(x);break __cell}`: the value is the block's, the columns stay.
 * @param {any} node @param {string} code @param {Edit[]} edits
 */
function editReturn(node, code, edits) {
  const end = code[node.end - 1] === ';' ? node.end - 1 : node.end;
  const open = node.argument ? '{__pb(' : '{void 0';
  edits.push({ start: node.start, end: node.start + 6, text: open });
  edits.push({ start: end, end: node.end, text: `${node.argument ? ')' : ''};break __cell}` });
}

/**
 * Puts the values a statement can end with into boxes, so that the inspector hands over a handle
 * and not, say, the text of a screenshot. Loops are left alone: a box for every turn is too much.
 * @param {any} node @param {string} code @param {Edit[]} edits @param {string} open what makes the box
 */
function boxValue(node, code, edits, open = '__pb(') {
  switch (node?.type) {
    case 'ExpressionStatement': {
      if (node.directive) return;
      const end = code[node.end - 1] === ';' ? node.end - 1 : node.end;
      edits.push({ start: node.start, end: node.start, text: open });
      edits.push({ start: end, end, text: ')' });
      return;
    }
    case 'BlockStatement':
      for (const one of node.body) boxValue(one, code, edits);
      return;
    case 'IfStatement':
      boxValue(node.consequent, code, edits);
      boxValue(node.alternate, code, edits);
      return;
    case 'TryStatement':
      boxValue(node.block, code, edits);
      boxValue(node.handler?.body, code, edits);
  }
}

/**
 * @param {string} code @param {Edit[]} edits @param {number} before columns in front of the code
 * @returns {{text: string, shifts: Shift[]}}
 */
function applyEdits(code, edits, before) {
  /** @type {Shift[]} */
  const shifts = [[1, before, before]];
  let text = '';
  let at = 0;
  edits.sort((a, b) => a.start - b.start || a.end - b.end);
  for (const edit of edits) {
    text += code.slice(at, edit.start) + edit.text;
    at = edit.end;
    const line = text.split('\n').length;
    const column = text.length - (text.lastIndexOf('\n') + 1) + (line === 1 ? before : 0);
    shifts.push([line, column, column - (at - (code.lastIndexOf('\n', at - 1) + 1))]);
  }
  return { text: text + code.slice(at), shifts };
}
