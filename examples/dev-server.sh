#!/usr/bin/env bash
# A web server that one execution starts and the next ones open, click and change. It runs inside the
# session; nothing of this host is opened for it.
# Needs a daemon (`pagebox serve`) whose host_loopback leaves port 8000 to sessions.
# Usage: examples/dev-server.sh [HOST:PORT]
set -euo pipefail

export PAGEBOX_SERVER=${1:-127.0.0.1:7370}
session=$(pagebox session create)
trap 'pagebox session stop "$session" >/dev/null' EXIT

echo '== bash starts a server'
pagebox exec -s "$session" -l bash - <<'END'
mkdir shop && cd shop
cat > index.html <<'PAGE'
<!doctype html><title>Shop</title><h1>No boats</h1>
<button onclick="document.querySelector('h1').innerText = 'One boat'">Buy</button>
PAGE
python3 -m http.server 8000 2>/dev/null &
until curl -s -o /dev/null http://localhost:8000/; do sleep 0.1; done
END

echo '== node opens and clicks it'
pagebox exec -s "$session" -l node - <<'END'
const answer = await page.goto('http://localhost:8000/');
if (!answer.ok()) throw new Error(await answer.text());
await page.click('text=Buy');
await page.innerText('h1');
END

echo '== python edits it'
pagebox exec -s "$session" -l python - <<'END'
from pathlib import Path
index = Path("/workspace/shop/index.html")
index.write_text(index.read_text().replace("No boats", "Two boats"))
await page.reload()
await page.inner_text("h1")
END
