//! A small site on two loopback names.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves until the runtime ends; the port.
pub(super) async fn start() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |request: Request<_>| async move {
                Ok::<_, Infallible>(answer(request.uri().path(), port))
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

fn answer(path: &str, port: u16) -> Response<Full<bytes::Bytes>> {
    let (kind, body) = match path {
        "/" => (
            "text/html",
            "<title>site</title><button id=b onclick=\"document.title='clicked'\">go</button>\
             <a id=d href=/file download>file</a><a id=pop target=_blank href=/popup>popup</a>\
             <input type=file id=f>"
                .to_owned(),
        ),
        "/popup" => ("text/html", "<title>popup</title>".to_owned()),
        "/frame" => (
            "text/html",
            format!("<title>frame</title><iframe src=http://localhost:{port}/inner></iframe>"),
        ),
        "/inner" => ("text/html", "<title>inner</title><p id=p>inner text</p>".to_owned()),
        "/worker" => (
            "text/html",
            "<title>worker</title><script>w=new Worker('/worker.js')</script>".to_owned(),
        ),
        "/worker.js" => ("text/javascript", "onmessage=e=>postMessage(e.data+1)".to_owned()),
        "/file" => ("application/octet-stream", "content ".repeat(10_000)),
        "/alert" => ("text/html", "<title>alert</title><script>alert('hello')</script>".to_owned()),
        _ => ("text/plain", String::new()),
    };
    let response = Response::builder().header(CONTENT_TYPE, kind);
    let response = match path {
        "/file" => {
            response.header(CONTENT_DISPOSITION, "attachment; filename=\"the report.txt\"")
        }
        _ => response,
    };
    response.body(Full::from(body)).unwrap()
}
