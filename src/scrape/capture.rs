//! What is taken from a page: its HTML or text, pictures, PDFs.

use serde_json::{Value, json};

use super::Error;
use super::actions::Paper;
use super::format::{Screenshot, Viewport};
use super::tab::Tab;
use crate::limits::Bytes;

/// Most pixels of a picture in CSS pixels; what is below is cut off. Chromium makes no larger ones.
const MAX_SIDE: f64 = 16_384.0;

/// Gives the page's HTML.
const HTML: &str = include_str!("html.js");
/// How deep Chromium's parser nests elements.
const DEEPEST: usize = 512;

/// The page's URL and HTML.
pub(super) async fn html(tab: &Tab, most: Bytes) -> Result<(String, String), Error> {
    let take = format!("{HTML}page({}, {DEEPEST})", most.0);
    taken(tab.look(&take).await?, most)
}

/// The URL and text of a document that is not HTML, as Chromium shows it.
pub(super) async fn text(tab: &Tab, most: Bytes) -> Result<(String, String), Error> {
    let take = format!(
        "(() => {{ const xml = document.getElementById('webkit-xml-viewer-source-xml'); \
         const text = document.querySelector('body > pre'); \
         const html = xml ? xml.innerHTML : text ? text.textContent : \
         document.contentType.includes('xml') ? new XMLSerializer().serializeToString(document) : \
         document.body?.textContent ?? ''; \
         return html.length > {most} ? {{ length: html.length }} : {{ html, url: location.href }}; \
         }})()",
        most = most.0
    );
    taken(tab.look(&take).await?, most)
}

fn taken(mut found: Value, most: Bytes) -> Result<(String, String), Error> {
    match (found["url"].take(), found["html"].take()) {
        (Value::String(url), Value::String(html)) => Ok((url, html)),
        _ => Err(Error::TooLarge { most }),
    }
}

/// A picture of the page, as a data URL.
pub(super) async fn screenshot(
    tab: &Tab,
    wanted: &Screenshot,
    mobile: bool,
) -> Result<String, Error> {
    if let Some(Viewport { width, height }) = wanted.viewport {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile,
        });
        tab.call("Emulation.setDeviceMetricsOverride", metrics)
            .await?;
    }
    let taken = picture(tab, wanted).await;
    if wanted.viewport.is_some() {
        if mobile {
            super::load::as_phone(tab).await?;
        } else {
            let clear = "Emulation.clearDeviceMetricsOverride";
            tab.call(clear, json!({})).await?;
        }
    }
    taken
}

async fn picture(tab: &Tab, wanted: &Screenshot) -> Result<String, Error> {
    let mut params = match wanted.quality {
        Some(quality) => json!({ "format": "jpeg", "quality": quality }),
        None => json!({ "format": "png" }),
    };
    if wanted.full_page {
        let metrics = tab.call("Page.getLayoutMetrics", json!({})).await?;
        let size = &metrics["cssContentSize"];
        let side = |name: &str| size[name].as_f64().unwrap_or(1.0).clamp(1.0, MAX_SIDE);
        params["captureBeyondViewport"] = true.into();
        params["clip"] = json!({
            "x": 0, "y": 0, "width": side("width"), "height": side("height"), "scale": 1,
        });
    }
    let kind = if wanted.quality.is_some() {
        "image/jpeg"
    } else {
        "image/png"
    };
    data_url(kind, &tab.call("Page.captureScreenshot", params).await?)
}

/// The page on paper, as a data URL.
pub(super) async fn pdf(
    tab: &Tab,
    paper: Paper,
    landscape: bool,
    scale: f64,
) -> Result<String, Error> {
    let (width, height) = paper.inches();
    let params = json!({
        "paperWidth": width, "paperHeight": height, "landscape": landscape, "scale": scale,
        "printBackground": true,
    });
    data_url(
        "application/pdf",
        &tab.call("Page.printToPDF", params).await?,
    )
}

fn data_url(kind: &str, answer: &Value) -> Result<String, Error> {
    let data = answer["data"].as_str().ok_or(Error::Crashed)?;
    Ok(format!("data:{kind};base64,{data}"))
}
