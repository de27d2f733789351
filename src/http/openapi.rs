//! Every path with its handler, and the document that describes them, made from the same types.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, PathItem};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ErrorBody;
use super::{Gateway, cdp, control, health, home, live_view, scrape, sessions, team};

/// The name of the one way to say who calls.
const KEY: &str = "key";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Pagebox",
        description = "Browser sandboxes by HTTP: Firecrawl's API on your own machine. Every error \
                       is an object with `success: false` and `error`. Success is always 200.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    security((), ("key" = [])),
    components(schemas(ErrorBody)),
    modifiers(&Key),
    tags(
        (name = "scrape", description = "Pages as documents, and code on them"),
        (name = "sessions", description = "Browsers that stay open, and code in them"),
        (name = "cdp", description = "A session's browser for clients outside"),
        (name = "team", description = "What is in use"),
        (name = "daemon", description = "Whether it runs")
    )
)]
struct Document;

struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A key of this daemon; without keys configured, whatever is sent is accepted.",
            ));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(KEY, SecurityScheme::Http(scheme.build()));
    }
}

/// Standalone sessions, below either of their two prefixes.
fn standalone() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::delete_profile))
        .routes(routes!(sessions::get, sessions::delete))
        .routes(routes!(sessions::execute))
        .routes(routes!(control::control))
        .routes(routes!(control::renew_live_view))
        .routes(routes!(sessions::replay))
        .routes(routes!(sessions::replay_page))
}

pub(super) fn router() -> Router<Gateway> {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .nest("/v2/browser", standalone())
        .nest("/v2/interact", standalone())
        .routes(routes!(scrape::create))
        .routes(routes!(scrape::get))
        .routes(routes!(scrape::interact, scrape::stop))
        .routes(routes!(team::credit_usage))
        .routes(routes!(team::queue_status))
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(cdp::socket))
        .routes(routes!(cdp::version))
        .split_for_parts();
    name_twins(&mut document);
    let text: Arc<str> = serde_json::to_string(&document)
        .expect("a document of strings, numbers and lists is JSON")
        .into();
    router
        .route("/cdp/{id}/json/version/", get(cdp::version))
        .route("/openapi.json", get(async move || json(&text)))
        .route("/", get(home::page))
        // For the live view's page alone.
        .route("/live/{id}", get(live_view::page))
        .route("/live/assets/{name}", get(live_view::asset))
        .route("/live/{id}/socket", get(live_view::socket))
        .route(
            "/live/{id}/files",
            get(live_view::download).post(live_view::upload),
        )
}

fn json(text: &str) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "application/json")], text.to_owned())
}

/// One operation on two paths needs two names.
fn name_twins(document: &mut OpenApi) {
    let twins = document.paths.paths.iter_mut();
    for (_, item) in twins.filter(|(path, _)| path.starts_with("/v2/interact")) {
        for operation in operations(item) {
            if let Some(id) = &mut operation.operation_id {
                id.push_str("ByInteract");
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.delete]
        .into_iter()
        .flatten()
}
