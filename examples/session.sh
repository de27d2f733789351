#!/usr/bin/env bash
# A session by grpcurl or buf: the daemon has server reflection, so no proto file is needed.
# Usage: examples/session.sh [HOST:PORT] [URL]
set -euo pipefail

server=${1:-127.0.0.1:7370}
url=${2:-https://example.com}

# The buf that `make test` installs serves too.
for directory in "$(dirname "${BASH_SOURCE[0]}")"/../tests/tools/node_modules/@bufbuild/buf-linux-*/bin; do
	PATH=$PATH:$directory
done

# call METHOD: sends the JSON on stdin.
if command -v grpcurl >/dev/null; then
	call() { grpcurl -plaintext -d @ "$server" "pagebox.v1.$1"; }
elif command -v buf >/dev/null; then
	call() { buf curl --protocol grpc --http2-prior-knowledge -d @- "http://$server/pagebox.v1.$1"; }
else
	echo "session.sh: needs grpcurl or buf" >&2
	exit 1
fi

session=$(jq -n --arg url "$url" '{options: {startUrl: $url, ttl: "120s"}}' |
	call SessionService/CreateSession | jq -r .session.id)
echo "session $session"

# execute LANGUAGE CODE
execute() {
	jq -n --arg session "$session" --arg language "$1" --arg code "$2" \
		'{options: {sessionId: $session, language: $language, code: $code}}' |
		call ExecutionService/Execute
}

execute LANGUAGE_NODE 'await page.title()' | jq -r .result
execute LANGUAGE_PYTHON 'print(page.url)' | jq -r .stdout
execute LANGUAGE_BASH 'agent-browser snapshot -i' | jq -r .stdout

jq -n --arg session "$session" '{sessionId: $session}' |
	call SessionService/StopSession | jq -r '"lived \(.duration)"'
