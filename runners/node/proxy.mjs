// @ts-check
/**
 * `fetch`, `http` and `https` through the proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, which Node 20
 * does not do by itself. Everything is loaded at the first request.
 */
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import { connect } from 'node:tls';

const load = createRequire(import.meta.url);
const { env } = process;
const { URL } = globalThis;
/** For the way to the proxy itself. */
const direct = new http.Agent();

export function installProxy() {
  const plain = env.HTTP_PROXY || env.http_proxy;
  const secure = env.HTTPS_PROXY || env.https_proxy || plain;
  if (plain) http.globalAgent = tunnelling(http.Agent, plain, false);
  if (secure) https.globalAgent = tunnelling(https.Agent, secure, true);
  if (!plain && !secure) return;
  /** @type {any} */
  let agent;
  const real = () => {
    if (!agent) {
      const { Agent, buildConnector } = load('undici');
      agent = new Agent({ connect: connector(buildConnector({}), plain, secure) });
    }
    return agent;
  };
  // The place where fetch looks for its dispatcher, in every version of undici.
  Object.defineProperty(globalThis, Symbol.for('undici.globalDispatcher.1'), {
    value: {
      dispatch: (/** @type {any[]} */ ...all) => real().dispatch(...all),
      close: (/** @type {any[]} */ ...all) => real().close(...all),
      destroy: (/** @type {any[]} */ ...all) => real().destroy(...all),
    },
    writable: true,
    configurable: true,
  });
}

/** For a program that makes agents of its own, as Playwright's driver does for `page.request`. */
export function proxyEveryAgent() {
  const plain = env.HTTP_PROXY || env.http_proxy;
  const secure = env.HTTPS_PROXY || env.https_proxy || plain;
  for (const [Base, proxy, encrypted] of /** @type {const} */ ([
    [http.Agent, plain, false],
    [https.Agent, secure, true],
  ])) {
    if (proxy)
      /** @type {any} */ (Base.prototype).createConnection = connecting(Base, proxy, encrypted);
  }
}

/**
 * How `fetch` connects. undici's own proxy agent would hide why a proxy refused.
 * @param {any} straight undici's connector @param {string | undefined} plain @param {string | undefined} secure
 */
function connector(straight, plain, secure) {
  return (
    /** @type {any} */ options,
    /** @type {(error: Error | null, socket?: any) => void} */ done,
  ) => {
    const encrypted = options.protocol === 'https:';
    const proxy = encrypted ? secure : plain;
    if (!proxy || isExempt(options.hostname)) return straight(options, done);
    const port = options.port || (encrypted ? 443 : 80);
    tunnel(proxy, authority(options.hostname, port), (error, socket) => {
      if (error || !encrypted) done(error, socket);
      else straight({ ...options, httpSocket: socket }, done);
    });
    return undefined;
  };
}

/**
 * As a CONNECT names it: IPv6 addresses in brackets.
 * @param {string} host @param {string | number} port
 */
function authority(host, port) {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Has the proxy connect to a target.
 * @param {string} proxy @param {string} target @param {(error: Error | null, socket?: any) => void} done
 */
function tunnel(proxy, target, done) {
  const { hostname, port } = new URL(proxy);
  const request = http.request({
    host: hostname,
    port: port || 80,
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
    const rule = response.headers['x-pagebox-egress'];
    const status = `${response.statusCode} ${response.statusMessage}`;
    done(new Error(`the proxy refused ${target}: ${status}${rule ? ` (${rule})` : ''}`));
  });
  request.once('error', done);
  request.end();
}

/**
 * An agent whose connections are CONNECT tunnels.
 * @param {any} Base @param {string} proxy @param {boolean} encrypted
 */
function tunnelling(Base, proxy, encrypted) {
  class Tunnel extends Base {}
  /** @type {any} */ (Tunnel.prototype).createConnection = connecting(Base, proxy, encrypted);
  return new Tunnel({ keepAlive: true });
}

/**
 * An agent's method that opens its connections.
 * @param {any} Base whose own method takes those that need no proxy
 * @param {string} proxy @param {boolean} encrypted
 */
function connecting(Base, proxy, encrypted) {
  const straight = Base.prototype.createConnection;
  return /** @this {any} */ function (
    /** @type {any} */ options,
    /** @type {(error: Error | null, socket?: any) => void} */ done,
  ) {
    if (options.socketPath || isExempt(options.host)) return straight.call(this, options, done);
    tunnel(proxy, authority(options.host, options.port), (error, socket) => {
      if (error || !encrypted) done(error, socket);
      else done(null, connect({ ...options, socket }));
    });
    return undefined;
  };
}

/** @param {string} host */
function isExempt(host) {
  const list = (env.NO_PROXY || env.no_proxy || '').split(',').map((one) => one.trim());
  return list.some((one) => {
    if (one === '*' || one === host) return true;
    const suffix = one.replace(/^\*/, '');
    return suffix !== '' && host.endsWith(suffix.startsWith('.') ? suffix : `.${suffix}`);
  });
}
