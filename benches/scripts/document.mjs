// Puts the results of `make bench` into docs/performance.md: tables between the marks that name them, and
// plots beside it. A result that is not there leaves its place as it is.
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';

const results = new URL('../../target/bench/', import.meta.url);
const documents = new URL('../../docs/', import.meta.url);
const page = new URL('performance.md', documents);
const places = /(<!-- bench (\S+)(?: ([^\n]*?))? -->\n).*?(<!-- end -->)/gs;

const filled = readFileSync(page, 'utf8').replace(places, (place, begin, name, about, end) => {
  const file = new URL(name, results);
  if (!existsSync(file)) {
    console.log(`${name}: no result`);
    return place;
  }
  if (!name.endsWith('.svg')) {
    return `${begin}\n${readFileSync(file, 'utf8').trim()}\n\n${end}`;
  }
  copyFileSync(file, new URL(name, documents));
  return `${begin}\n![${about}](${name})\n\n${end}`;
});
writeFileSync(page, filled);
