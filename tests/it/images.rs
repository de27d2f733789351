//! What code and pages find in their images: fonts, and paths that exist.

use pagebox::grpc::v1::Language;

use crate::shared::blank;

/// Draws each text alone and gives, by text, whether it has ink, has colour, and which of the others
/// look the same.
const SHAPES: &str = r#"
await page.setContent('<body></body>');
const shapes = await page.evaluate((texts) => {
  const draw = (text) => {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 64;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.font = '40px sans-serif';
    context.fillText(text, 8, 48);
    return context.getImageData(0, 0, 64, 64).data;
  };
  const drawn = texts.map(draw);
  return texts.map((text, index) => ({
    ink: drawn[index].some((value) => value !== 0),
    colour: drawn[index].some((value, at) => at % 4 === 0 && value !== drawn[index][at + 2]),
    same: texts.filter((_, other) => other !== index && drawn[other].join() === drawn[index].join()),
  }));
}, ['\uE123', 'A', '中', '水', 'あ', 'ア', '한', '글', '😀', '🚀', '❤️']);
shapes
"#;

#[tokio::test]
async fn chinese_japanese_korean_and_emoji_have_shapes_of_their_own() {
    let session = blank().await;
    let shapes: serde_json::Value = serde_json::from_str(&session.node(SHAPES).await).unwrap();
    let shapes = shapes.as_array().unwrap();
    // The first is a character no font has: the box that stands for it.
    assert_eq!(shapes.len(), 11);
    for (index, shape) in shapes.iter().enumerate() {
        assert_eq!(shape["ink"], true, "{index}: {shape}");
        assert_eq!(shape["same"], serde_json::json!([]), "{index}: {shape}");
        assert_eq!(shape["colour"], index >= 8, "{index}: {shape}");
    }
    session.stop().await;
}

/// Files named in stacks that playwright-core is on, and in those node's own modules leave.
const NODE_FRAMES: &str = r#"
const { existsSync } = await import('node:fs');
Error.stackTraceLimit = 100;
const stacks = [];
page.on('console', () => stacks.push(new Error('here').stack));
await page.evaluate(() => console.log('x'));
await page.waitForTimeout(0);
for (const bad of [() => page.click('<<'), () => page.goto('nowhere://x'), () => page.setViewportSize(1), () => context.addCookies([{}])])
  await Promise.resolve().then(bad).catch((error) => stacks.push(error.stack));
const files = new Set(stacks.join('\n').match(/(?<=[ (]|file:\/\/)\/[^\s:()]+(?=:\d+:\d+)/g));
({ core: [...files].some((file) => file.endsWith('/coreBundle.js')), gone: [...files].filter((file) => !existsSync(file)) })
"#;

const PYTHON_FRAMES: &str = r#"
import json, os, traceback
stacks = []
for bad in (lambda: page.click("<<"), lambda: page.goto("nowhere://x"), lambda: page.evaluate("throw 1")):
    try:
        await bad()
    except Exception as error:
        stacks += [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
try:
    json.loads("{")
except ValueError as error:
    stacks += [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
files = {file for file in stacks if file.startswith("/")}
{"core": any("/playwright/" in file for file in files), "gone": [file for file in files if not os.path.exists(file)]}
"#;

#[tokio::test]
async fn a_stack_names_only_files_that_exist_inside() {
    let session = blank().await;
    for (language, code) in [
        (Language::Node, NODE_FRAMES),
        (Language::Python, PYTHON_FRAMES),
    ] {
        let reply = session.good(language, code).await;
        let found: serde_json::Value = serde_json::from_str(reply.result()).unwrap();
        // Without a frame of Playwright this would prove nothing.
        let expected = serde_json::json!({ "core": true, "gone": [] });
        assert_eq!(found, expected, "{language:?}");
    }
    session.stop().await;
}
