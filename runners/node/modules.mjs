// @ts-check
/**
 * `require` and `import` for code that is no file: relative to the working directory, with what is
 * installed beside the runner (playwright-core) as the second choice for bare names.
 */
import { createRequire, isBuiltin } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compileFunction, constants } from 'node:vm';

const beside = createRequire(import.meta.url);
const captureStackTrace = Error.captureStackTrace;
const workingDirectory = process.cwd.bind(process);

/** @type {{cwd: string, require: NodeRequire, load: ReturnType<typeof importerAt>} | undefined} */
let here;

/** Loaders for the present working directory; there is one set at a time. */
function loaders() {
  const cwd = workingDirectory();
  if (here?.cwd !== cwd) {
    const file = join(cwd, 'code.js');
    here = { cwd, require: createRequire(file), load: importerAt(file) };
  }
  return here;
}

/**
 * The only way in Node 20 to import from a place of choice. Node warns at the first call that it is
 * experimental; nobody here can do anything about that, so this one warning is swallowed.
 * @param {string} filename @returns {(name: string, options?: object) => Promise<any>}
 */
function importerAt(filename) {
  const importer = compileFunction('return import(specifier, options)', ['specifier', 'options'], {
    filename,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  return (name, options) => {
    const { emitWarning } = process;
    process.emitWarning = () => {};
    try {
      return importer(name, options);
    } finally {
      process.emitWarning = emitWarning;
    }
  };
}

/** @param {string} name */
function isBare(name) {
  return (
    typeof name === 'string' &&
    !/^(\.{0,2}\/|\.{1,2}$|file:|data:|node:)/.test(name) &&
    !isBuiltin(name)
  );
}

/** @param {string} name @param {object} [options] @returns {string} */
function resolve(name, options) {
  const local = loaders().require;
  try {
    return local.resolve(name, options);
  } catch (error) {
    if (!isBare(name)) throw error;
    try {
      return beside.resolve(name, options);
    } catch {
      throw error;
    }
  }
}

/** What user code sees as `require`. @param {string} name */
export function require(name) {
  try {
    return loaders().require(isBare(name) ? resolve(name) : name);
  } catch (error) {
    const { code, requireStack } = /** @type {any} */ (error ?? {});
    // The stack of a missing module is the caller's, not that of the resolver.
    if (code === 'MODULE_NOT_FOUND' && requireStack?.length === 1)
      captureStackTrace(error, require);
    throw error;
  }
}
require.resolve = resolve;
require.cache = beside.cache;
require.main = undefined;
require.extensions = beside.extensions;

/**
 * What `import(…)` and static imports become.
 * @param {string} name @param {object} [options] import attributes, `{with: {…}}`
 * @param {string[]} [wanted] names a static import needs
 */
export async function load(name, options, wanted) {
  const { load: importHere } = loaders();
  let module;
  try {
    module = await importHere(name, options);
  } catch (error) {
    const { code } = /** @type {any} */ (error ?? {});
    if (code !== 'ERR_MODULE_NOT_FOUND' || !isBare(name)) throw error;
    try {
      module = await importerBeside()(name, options);
    } catch (second) {
      throw /** @type {any} */ (second)?.code === 'ERR_MODULE_NOT_FOUND' ? error : second;
    }
  }
  const missing = wanted?.filter((one) => !(one in module));
  if (!missing?.length) return module;
  // A CommonJS module whose names Node could not tell in advance has them on its default export.
  const whole = module.default;
  for (const one of missing) {
    if (whole === null || whole === undefined || !(one in Object(whole)))
      throw new SyntaxError(
        `The requested module '${name}' does not provide an export named '${one}'`,
      );
  }
  return { ...whole, ...module };
}

/** @type {ReturnType<typeof importerAt> | undefined} */
let besideImporter;
function importerBeside() {
  besideImporter ??= importerAt(fileURLToPath(new URL('code.js', import.meta.url)));
  return besideImporter;
}

/** What `import.meta` becomes. */
export const meta = {
  get url() {
    return pathToFileURL(this.filename).href;
  },
  get filename() {
    return join(workingDirectory(), 'code.js');
  },
  get dirname() {
    return workingDirectory();
  },
  /** @param {string} name */
  resolve(name) {
    const path = resolve(name);
    return isBuiltin(path) ? path : pathToFileURL(path).href;
  },
};
