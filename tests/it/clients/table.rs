//! The clients, each as code that asks for `@URL@` and prints or returns the body.

use pagebox::grpc::v1::Language::{self, Bash, Node, Python};

/// One way to ask for a URL.
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) language: Language,
    /// The code; `@URL@` stands for the URL.
    pub(super) code: &'static str,
    /// Whether it takes any certificate, for want of a way to be told another authority.
    pub(super) trusts_all: bool,
}

const fn way(name: &'static str, language: Language, code: &'static str) -> Way {
    Way {
        name,
        language,
        code,
        trusts_all: false,
    }
}

/// Every client of the session's code.
pub(super) const WAYS: &[Way] = &[
    way(
        "requests",
        Python,
        "import requests\nrequests.get('@URL@').text",
    ),
    way(
        "urllib",
        Python,
        "import urllib.request\nurllib.request.urlopen('@URL@').read().decode()",
    ),
    way("httpx", Python, "import httpx\nhttpx.get('@URL@').text"),
    way(
        "httpx, async",
        Python,
        "import httpx\nasync with httpx.AsyncClient() as client:\n    answer = await client.get('@URL@')\n\
         answer.text",
    ),
    Way {
        trusts_all: true,
        ..way(
            "page.request in python",
            Python,
            "await (await page.request.get('@URL@', ignore_https_errors=True)).text()",
        )
    },
    way("fetch", Node, "await (await fetch('@URL@')).text()"),
    way(
        "undici",
        Node,
        "await (await require('undici').request('@URL@')).body.text()",
    ),
    way(
        "http.get and https.get",
        Node,
        "const from = require(new URL('@URL@').protocol.slice(0, -1)); \
         await new Promise((end, fail) => from.get('@URL@', (answer) => { let text = ''; \
         answer.on('data', (part) => (text += part)).on('end', () => end(text)) }).on('error', fail))",
    ),
    way(
        "an agent of one's own",
        Node,
        "const by = require(new URL('@URL@').protocol.slice(0, -1)); \
         const agent = new by.Agent({ keepAlive: true }); \
         await new Promise((end, fail) => by.get('@URL@', { agent }, (answer) => { let text = ''; \
         answer.on('data', (part) => (text += part)).on('end', () => end(text)) }).on('error', fail))",
    ),
    way(
        "page.request in node",
        Node,
        "await (await page.request.get('@URL@')).text()",
    ),
    way(
        "a node program that node starts",
        Node,
        "const run = require('util').promisify(require('child_process').execFile); \
         const code = 'fetch(\"@URL@\").then((answer) => answer.text()).then(console.log)'; \
         (await run(process.execPath, ['-e', code])).stdout",
    ),
    // With what curl shows of the proxy's answer.
    way("curl", Bash, "curl -sS -v '@URL@'"),
    way(
        "wget",
        Bash,
        "wget -nv -t 1 ${SSL_CERT_FILE:+--ca-certificate=$SSL_CERT_FILE} -O - '@URL@'",
    ),
    way(
        "requests in bash",
        Bash,
        "python -c 'import requests; print(requests.get(\"@URL@\").text)'",
    ),
    way(
        "fetch in bash",
        Bash,
        "node -e 'fetch(\"@URL@\").then((answer) => answer.text()).then(console.log)'",
    ),
];
