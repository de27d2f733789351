//! Where a text that is typed would land.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cdp::{ClientKind, Error, Hub};

const LIMIT: Duration = Duration::from_secs(5);

/// Whether a field of the page itself has the focus, and not one of a frame from elsewhere. Asked
/// beside the page's own scripts, through getters that no element's name can stand before.
const LOOK: &str = r"(() => {
  const of = (proto, name) => Object.getOwnPropertyDescriptor(proto, name).get;
  const active = of(Document.prototype, 'activeElement');
  const activeIn = of(ShadowRoot.prototype, 'activeElement');
  const root = of(Element.prototype, 'shadowRoot');
  const localName = of(Element.prototype, 'localName');
  const inner = of(HTMLIFrameElement.prototype, 'contentDocument');
  let element = active.call(document);
  for (let depth = 0; element && depth < 32; depth++) {
    const name = localName.call(element);
    if (name === 'input' || name === 'textarea') return true;
    if (name === 'iframe') {
      const frame = inner.call(element);
      element = frame && active.call(frame);
      continue;
    }
    const shadow = root.call(element);
    if (!shadow) return element.isContentEditable === true;
    element = activeIn.call(shadow);
  }
  return false;
})()";

/// Asks the active page.
pub(super) async fn is_in_own_field(hub: &Hub) -> Result<bool, Error> {
    let what = "asking for the focus";
    let asking = async {
        let target = hub.active_page().target_id;
        let client = hub.client(ClientKind::Internal).await?;
        let session = client.attach(&target).await?;
        let call = async |method: &'static str, params: Value| {
            let answer = client.call_raw(Some(&session), method, &params).await?;
            serde_json::from_slice::<Value>(&answer).map_err(|source| Error::Response {
                method: method.to_owned(),
                source,
            })
        };
        let world = json!({ "frameId": target, "worldName": "pagebox" });
        let world = call("Page.createIsolatedWorld", world).await?;
        let look = json!({
            "expression": LOOK, "contextId": world["executionContextId"], "returnByValue": true,
        });
        let answer = call("Runtime.evaluate", look).await?;
        Ok(answer["result"]["value"] == true)
    };
    let asked = timeout(LIMIT, asking).await;
    asked.map_err(|_| Error::Timeout { what, limit: LIMIT })?
}
