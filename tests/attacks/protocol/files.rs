//! Files that pass between code, browser and the sites it visits.

use std::collections::BTreeMap;

use pagebox::grpc::v1::Language;

use crate::arena::Ground;

fn table(json: &str) -> BTreeMap<String, String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

pub(super) async fn links(ground: &Ground) {
    let session = ground.open("/about.html").await;
    let code = "
const fs = require('fs');
const said = {};
fs.writeFileSync('/tmp/plain', 'content');
const targets = { shadow: '/etc/shadow', passwd: '/etc/passwd', environ: '/proc/self/environ', maps: '/proc/self/maps',
  profile: '/browser', etc: '/etc', self: '/tmp/self', cmdline: '/proc/1/cmdline', chain: '/tmp/passwd' };
for (const [name, target] of Object.entries(targets)) fs.symlinkSync(target, '/tmp/' + name);
await page.setContent('<input type=file id=f>');
const cdp = await context.newCDPSession(page);
const upload = async (file) => {
  try {
    const { root } = await cdp.send('DOM.getDocument');
    const { nodeId } = await cdp.send('DOM.querySelector', { nodeId: root.nodeId, selector: '#f' });
    await cdp.send('DOM.setFileInputFiles', { nodeId, files: [file] });
    return await page.evaluate(() => f.files[0].text().then((t) => 'read ' + t, (e) => e.name));
  } catch (error) { return error.message.includes('not a file of this session') ? 'refused' : error.message; }
};
for (const file of ['/tmp/plain', ...Object.keys(targets).map((name) => '/tmp/' + name), '/tmp/etc/passwd', '/etc/passwd',
    '/proc/self/environ', '/tmp/../etc/passwd', '/workspace/../proc/1/environ', '//etc/passwd', 'tmp/plain', '/tmp/plain\\0.txt',
    '/browser/Default/Preferences', '/dev/shm/x'])
  said[file] = await upload(file);
said";
    let said = table(&session.node(code).await);
    assert_eq!(said["/tmp/plain"], "read content");
    // A link leads where it leads inside the browser's sandbox: to the image's own files, if any.
    let image = session.bash("cat /etc/passwd").await;
    let host = std::fs::read_to_string("/etc/passwd").expect("the host has users");
    assert_ne!(image, host.trim_end());
    for (file, seen) in said.iter().filter(|(file, _)| *file != "/tmp/plain") {
        // A file of /proc has no size, so an empty one is read.
        let nothing = ["refused", "NotFoundError", "NotReadableError", "read "];
        let own = seen.trim_end() == format!("read {image}");
        assert!(own || nothing.contains(&&**seen), "{file:?}: {seen}");
    }
    // Downloads into links: `/tmp/out` leads out of the scratch.
    let code = "
const fs2 = require('fs');
const ended = {};
for (const [name, target] of Object.entries({ out: '/etc', proc: '/proc/self', up: '/tmp/../..', shm: '/dev/shm' }))
  fs2.symlinkSync(target, '/tmp/to-' + name);
fs2.mkdirSync('/tmp/dir');
fs2.symlinkSync('/etc/report', '/tmp/dir/report.csv');
const root = await browser.newBrowserCDPSession();
for (const place of ['/tmp/dir', '/tmp/to-out', '/tmp/to-proc', '/tmp/to-up', '/tmp/to-shm', '/etc', '/tmp/../etc',
    '/proc/self/cwd', '/tmp/fine']) {
  await root.send('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: place, eventsEnabled: true });
  const began = page.waitForEvent('download').then((download) => download.path());
  await page.evaluate(() => Object.assign(document.createElement('a'),
    { href: URL.createObjectURL(new Blob(['content'])), download: 'report.csv' }).click());
  ended[place] = await began.then(() => 'saved', (error) => error.message);
}
ended.link = fs2.readlinkSync('/tmp/dir/report.csv');
ended";
    let ended = table(&session.node(code).await);
    assert_eq!(ended["link"], "/etc/report", "{ended:?}");
    assert_eq!(ended["/tmp/fine"], "saved", "{ended:?}");
    for place in ["out", "proc", "up", "shm"] {
        let end = &ended[&format!("/tmp/to-{place}")];
        assert!(end.ends_with("canceled"), "{ended:?}");
    }
    let found = session
        .bash("find / -newer /tmp/plain -name 'report*' -type f -not -path '/proc/*' 2>/dev/null || true")
        .await;
    assert!(found.contains("/tmp/fine/report.csv"), "{found}");
    assert!(
        found.lines().all(|path| path.starts_with("/tmp/")),
        "{found}"
    );
    session.stop().await;
}

pub(super) async fn names(ground: &Ground) {
    let session = ground.open("/about.html").await;
    // A page names a download as it likes, and so does the header of a site.
    let code = "
const fs = require('fs');
const names = ['../../etc/cron.d/x', '/etc/passwd', '..', '.', '', 'a/b/c', 'a\\\\b', 'con.txt', '.bashrc', '-rf', 'x'.repeat(300),
  '\\u6f22'.repeat(200), '\\ud83d\\ude00'.repeat(150) + '.csv', 'a\\u0000b', 'line\\nbreak\\r\\n', '\\u001b[2J', '\\u202egnp.exe', 'A.TXT', 'a.txt',
  '$(reboot)', '%2e%2e%2fx', '~', 'a'.repeat(100) + '.tar.gz', ' '];
const said = {};
const cdp = await browser.newBrowserCDPSession();
fs.mkdirSync('/tmp/named');
await cdp.send('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: '/tmp/named', eventsEnabled: true });
for (const [n, name] of names.entries()) {
  // Chromium lets a tab start ten by itself.
  const tab = await context.newPage();
  await tab.goto(page.url());
  const began = tab.waitForEvent('download').then((download) => download.path());
  await tab.evaluate(([name, n]) => Object.assign(document.createElement('a'),
    { href: URL.createObjectURL(new Blob(['content ' + n])), download: name || '_' }).click(), [name, n]);
  await began;
  await tab.close();
}
const files = fs.readdirSync('/tmp/named', { withFileTypes: true });
said.plain = String(files.every((file) => file.isFile()));
said.count = String(files.length);
said.contents = String(new Set(files.map((file) => fs.readFileSync('/tmp/named/' + file.name, 'utf8'))).size);
said.names = JSON.stringify(files.map((file) => file.name));
said";
    let mut options = session.options(Language::Node, code);
    options.timeout = crate::client::seconds(100);
    let reply = session.run(options).await;
    let said = table(
        reply
            .result
            .as_deref()
            .unwrap_or_else(|| panic!("{}", crate::client::describe(&reply))),
    );
    assert_eq!(
        (&*said["plain"], &*said["count"], &*said["contents"]),
        ("true", "24", "24"),
        "{said:?}"
    );
    let bad = |c: char| c == '/' || c.is_control();
    let names: Vec<String> = serde_json::from_str(&said["names"]).unwrap();
    assert!(
        names
            .iter()
            .all(|name| name.len() <= 255 && !name.contains(bad)),
        "{names:?}"
    );
    session.stop().await;
}
