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
    const { EnvHttpProxyAgent } = load('undici');
    agent ??= new EnvHttpProxyAgent();
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

/**
 * An agent whose connections are CONNECT tunnels.
 * @param {any} Base @param {string} proxy @param {boolean} encrypted
 */
function tunnelling(Base, proxy, encrypted) {
  const { hostname, port } = new URL(proxy);
  class Tunnel extends Base {
    /** @param {any} options @param {(error: Error | null, socket?: any) => void} done */
    createConnection(options, done) {
      const target = `${options.host}:${options.port}`;
      if (options.socketPath || isExempt(options.host))
        return super.createConnection(options, done);
      const request = http.request({
        host: hostname,
        port: port || 80,
        method: 'CONNECT',
        path: target,
        headers: { host: target },
        agent: direct,
      });
      request.once('connect', (response, socket) => {
        if (response.statusCode !== 200) {
          socket.destroy();
          done(
            new Error(
              `the proxy refused ${target}: ${response.statusCode} ${response.statusMessage}`,
            ),
          );
        } else if (encrypted) done(null, connect({ ...options, socket }));
        else done(null, socket);
      });
      request.once('error', done);
      request.end();
      return undefined;
    }
  }
  return new Tunnel({ keepAlive: true });
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
