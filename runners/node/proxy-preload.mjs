// @ts-check
/** For `node --import`: takes Playwright's driver of another language through the proxy. */
import { proxyEveryAgent } from './proxy.mjs';

proxyEveryAgent();
