//! PDFs, pictures and recordings without measure.

use serde_json::json;

use super::inside::{alone, attack, serves};
use crate::arena::Ground;

/// A page that prints as 20 000 sheets.
const ENDLESS: &str =
    "document.body.innerHTML = '<div style=\"break-after:page\">x</div>'.repeat(20000); 1";

pub(super) async fn pictures(_: &Ground) {
    let (_daemon, session) = alone("[cdp]\ncapture_limit = \"4s\"\n").await;
    let code = format!(
        "
const client = await Cdp.connect(); const own = await client.page();
const honest = await client.ask('Page.printToPDF', {{}}, own);
const picture = await client.ask('Page.captureScreenshot', {{ format: 'jpeg' }}, own);
const clip = {{ x: 0, y: 0, width: 16000, height: 16000, scale: 1 }};
const large = await client.ask('Page.captureScreenshot', {{ clip, captureBeyondViewport: true }}, own);
const size = await client.ask('Emulation.setDeviceMetricsOverride',
  {{ width: 16000, height: 16000, deviceScaleFactor: 1, mobile: false }}, own);
await client.value(`{ENDLESS}`, own);
const pdf = await client.ask('Page.printToPDF', {{}}, own);
// The next one's client goes in the middle of it.
const made = await client.ask('Target.createTarget', {{ url: 'about:blank' }});
const attached = await client.ask('Target.attachToTarget', {{ targetId: made.targetId, flatten: true }});
await client.value(`{ENDLESS}`, attached.sessionId);
client.send('Page.printToPDF', {{ transferMode: 'ReturnAsStream' }}, attached.sessionId);
await pause(300);
client.close();
const other = await Cdp.connect();
const closed = async () => {{
  for (;;) {{
    const {{ targetInfos }} = await other.ask('Target.getTargets');
    if (!targetInfos.some((t) => t.targetId === made.targetId)) return 'closed';
    await pause(100);
  }}
}};
JSON.stringify([honest.data.slice(0, 4), picture.data.length > 100, large, size, pdf, await within(60000, closed())])"
    );
    let said = attack(&session, &code).await;
    let too_large = |method: &str| {
        format!(
            "{method}: 16000 x 16000 pixels are more than the 100000000 of cdp.capture_pixels: use a \
             smaller size or scale, or capture parts of the page (clip)"
        )
    };
    let too_long = "Page.printToPDF took longer than 4s (cdp.capture_limit) and was given up; a page it \
                    keeps busy is closed. Ask for less at once: fewer pages (pageRanges), a smaller \
                    part (clip)";
    let want = json!([
        "JVBE",
        true,
        too_large("Page.captureScreenshot"),
        too_large("Emulation.setDeviceMetricsOverride"),
        too_long,
        "closed",
    ]);
    assert_eq!(said, want);
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn many(ground: &Ground) {
    let session = ground.open("/article.html").await;
    let code = "
const client = await Cdp.connect(); const own = await client.page();
const answers = await Promise.all(Array.from({ length: 200 }, () =>
  client.ask('Page.captureScreenshot', { format: 'jpeg', quality: 1 }, own)));
const refused = answers.filter((answer) => typeof answer === 'string');
const after = await client.ask('Page.captureScreenshot', {}, own);
JSON.stringify([answers.length - refused.length, [...new Set(refused)], after.data.length > 100])";
    let said = attack(&session, code).await;
    assert!(said[0].as_u64().unwrap() >= 32, "{said}");
    let refusal = "Page.captureScreenshot: 32 captures are under way in this browser (cdp.captures): wait \
                   until one of them is answered";
    assert_eq!((&said[1], &said[2]), (&json!([refusal]), &json!(true)));
    serves(&session).await;
    session.stop().await;
}

pub(super) async fn recordings(ground: &Ground) {
    let session = ground.open("/").await;
    let begin = "
globalThis.kept = await Cdp.connect(); const own = await kept.page();
kept.listeners.push((m) => { if (m.method === 'Page.screencastFrame') {
  globalThis.frames = (globalThis.frames || 0) + 1;
  kept.send('Page.screencastFrameAck', { sessionId: m.params.sessionId }, own);
} });
const config = { recordMode: 'recordAsMuchAsPossible', traceBufferSizeInKb: 1 << 30 };
const started = [];
started.push(await kept.ask('Tracing.start', { traceConfig: config, transferMode: 'ReturnAsStream' }));
started.push(await kept.ask('Page.startScreencast', { format: 'jpeg', everyNthFrame: 1 }, own));
await kept.ask('HeapProfiler.enable', {}, own);
started.push(await kept.ask('HeapProfiler.startTrackingHeapObjects', {}, own));
await kept.ask('Profiler.enable', {}, own);
await kept.ask('Profiler.setSamplingInterval', { interval: 100 }, own);
started.push(await kept.ask('Profiler.start', {}, own));
await page.evaluate(() => setInterval(() => document.body.append(Date.now()), 20));
for (let i = 0; i < 200 && !globalThis.frames; i++) await pause(50);
const second = await Cdp.connect();
const taken = await second.ask('Tracing.start', {});
second.close();
JSON.stringify([started, globalThis.frames > 0, typeof taken])";
    let said = attack(&session, begin).await;
    assert_eq!(said, json!([[{}, {}, {}, {}], true, "string"]));
    // The run has ended: so has what it left running, while its client is connected still.
    let after = "
await within(10000, kept.event('Tracing.tracingComplete'));
await pause(500);
const before = globalThis.frames; await pause(1500);
const second = await Cdp.connect();
const free = await second.ask('Tracing.start', {});
await second.ask('Tracing.end');
const ended = await kept.ask('Profiler.stop', {}, (await kept.event('Target.attachedToTarget')).params.sessionId);
JSON.stringify([kept.closed, globalThis.frames - before, free, typeof ended])";
    assert_eq!(
        attack(&session, after).await,
        json!([false, 0, {}, "string"])
    );
    // And with its client.
    let gone = "
kept.close();
const client = await Cdp.connect(); await client.ask('Tracing.start', {}); client.close(); await client.gone;
const second = await Cdp.connect();
const free = async () => { for (;;) {
  const said = await second.ask('Tracing.start', {});
  if (typeof said !== 'string') return said;
  await pause(100);
} };
JSON.stringify(await within(20000, free()))";
    assert_eq!(attack(&session, gone).await, json!({}));
    serves(&session).await;
    session.stop().await;
}
