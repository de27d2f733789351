// @ts-check
/** For `node --import`: takes any node program through the proxy of its environment. */
import { installProxy } from './proxy.mjs';

installProxy();
