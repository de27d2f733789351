// @ts-check
/**
 * `fetch`, `http` and `https` through the proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, which Node 20
 * does not do by itself. Everything but `http` and `https` is loaded at the first request.
 *
 * undici's own proxy agent would do for `fetch`, but it hides why a proxy refused.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const load = createRequire(import.meta.url);
// An import would look at every name they export, and so load undici from Node 22 on.
/** @type {typeof import('node:http')} */
const http = load('node:http');
/** @type {typeof import('node:https')} */
const https = load('node:https');
const { env } = process;
const { URL } = globalThis;
const { defineProperty } = Object;
/** For the way to the proxy itself. */
const direct = new http.Agent();
/** @type {any} */ (direct).createConnection = http.Agent.prototype.createConnection;
/** Node reads this variable once, before any execution can set it. */
const knownCertificates = env.NODE_EXTRA_CA_CERTS;

/** Takes every agent of this process through the proxies of the environment, and `fetch`. */
export function installProxy() {
  const plain = env.http_proxy || env.HTTP_PROXY;
  const secure = env.https_proxy || env.HTTPS_PROXY || plain;
  if (plain) tunnelAgents(http.Agent, plain, false);
  if (secure) tunnelAgents(https.Agent, secure, true);
  if (plain || secure) tunnelFetch(plain, secure);
}

/**
 * The prototype, not the global agent: many programs make agents of their own, Playwright's driver
 * for one.
 * @param {any} Agent @param {string} proxy @param {boolean} encrypted
 */
function tunnelAgents({ prototype }, proxy, encrypted) {
  const straight = prototype.createConnection;
  /** @this {any} @param {any} options @param {Done} [done] @param {unknown[]} rest */
  prototype.createConnection = function (options, done, ...rest) {
    const isOurs = typeof options === 'object' && typeof done === 'function';
    if (!isOurs || options.socketPath || isExempt(options.host ?? 'localhost'))
      return straight.call(this, options, done, ...rest);
    tunnel(proxy, options.host, options.port, (error, socket) => {
      if (error || !encrypted) return done(error, socket);
      return attempt(done, () => straight.call(this, { ...options, ...certificates(), socket }));
    });
    return undefined;
  };
}

/** @param {string | undefined} plain @param {string | undefined} secure */
function tunnelFetch(plain, secure) {
  /** @type {any} */
  let agent;
  const real = () => {
    if (!agent) {
      const { Agent, buildConnector } = load('undici');
      agent = new Agent({ connect: connector(buildConnector, plain, secure) });
    }
    return agent;
  };
  const value = {
    dispatch: (/** @type {any[]} */ ...all) => real().dispatch(...all),
    close: (/** @type {any[]} */ ...all) => real().close(...all),
    destroy: (/** @type {any[]} */ ...all) => real().destroy(...all),
  };
  // Where fetch looks for its dispatcher: in undici up to 7, which Node up to 24 has, and from 8 on.
  for (const version of [1, 2]) {
    const place = Symbol.for(`undici.globalDispatcher.${version}`);
    // Where undici is loaded already the property cannot be configured, but it can be written.
    defineProperty(globalThis, place, { value, writable: true });
  }
}

/**
 * How `fetch` connects.
 * @param {(options: object) => any} build makes undici's connector
 * @param {string | undefined} plain @param {string | undefined} secure
 */
function connector(build, plain, secure) {
  let trusted = certificates();
  let straight = build(trusted);
  return (/** @type {any} */ options, /** @type {Done} */ done) => {
    const encrypted = options.protocol === 'https:';
    const proxy = encrypted ? secure : plain;
    if (!proxy || isExempt(options.hostname)) return straight(options, done);
    tunnel(proxy, options.hostname, options.port || (encrypted ? 443 : 80), (error, socket) => {
      if (error || !encrypted) return done(error, socket);
      try {
        const wanted = certificates();
        if (wanted.secureContext !== trusted.secureContext) straight = build(wanted);
        trusted = wanted;
      } catch (failure) {
        return done(/** @type {Error} */ (failure));
      }
      return straight({ ...options, httpSocket: socket }, done);
    });
    return undefined;
  };
}

/** @type {{file: string, secureContext: object} | undefined} */
let extra;

/** TLS options for NODE_EXTRA_CA_CERTS when it was set after the start. @returns {{secureContext?: object}} */
function certificates() {
  const file = env.NODE_EXTRA_CA_CERTS;
  if (!file || file === knownCertificates) return {};
  if (extra?.file !== file) {
    const { createSecureContext, rootCertificates } = load('node:tls');
    const ca = [...rootCertificates, readFileSync(file)];
    extra = { file, secureContext: createSecureContext({ ca }) };
  }
  return { secureContext: extra.secureContext };
}

/** @typedef {(error: Error | null, socket?: any) => void} Done */

/** Hands on what `make` returns or throws. @param {Done} done @param {() => any} make */
function attempt(done, make) {
  let socket;
  try {
    socket = make();
  } catch (error) {
    return done(/** @type {Error} */ (error));
  }
  return done(null, socket);
}

/**
 * Has the proxy connect to a target.
 * @param {string} proxy @param {string} host @param {number} port @param {Done} done
 */
function tunnel(proxy, host, port, done) {
  const target = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const at = new URL(proxy);
  const request = http.request({
    host: at.hostname,
    port: at.port || 80,
    method: 'CONNECT',
    path: target,
    headers: { host: target },
    agent: direct,
  });
  request.once('connect', (response, socket) => {
    if (response.statusCode === 200) {
      done(null, socket);
      return;
    }
    socket.destroy();
    // Our proxy's reason phrase names the rule.
    const answer = `${response.statusCode} ${response.statusMessage}`;
    done(new Error(`the proxy does not connect to ${target}: ${answer}`));
  });
  request.once('error', done);
  request.end();
}

/** @param {string} host */
function isExempt(host) {
  const list = (env.no_proxy || env.NO_PROXY || '').split(',').map((one) => one.trim());
  return list.some((one) => {
    if (one === '*' || one === host) return true;
    const suffix = one.replace(/^\*/, '');
    return suffix !== '' && host.endsWith(suffix.startsWith('.') ? suffix : `.${suffix}`);
  });
}
