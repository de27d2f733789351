//! Ports of the host's loopback inside a session.
//!
//! Programs reach `localhost` without a proxy, so that they find the session's own servers. Where
//! `host_loopback` sends a port to the host instead, a listener stands inside on that port, and what
//! connects to it is led to the host under the rules the proxy has.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::copy::copy;
use super::dial::dial;
use super::proxy::serve_each;
use super::target::Target;
use super::watched::Watched;
use super::{Egress, Source};

/// Relays what connects to `listeners` until `cancel`.
pub(super) async fn run(
    listeners: Vec<TcpListener>,
    egress: Arc<Egress>,
    cancel: CancellationToken,
) {
    let serve = |stream, _| relay(stream, Arc::clone(&egress));
    serve_each(&listeners, &egress.places, serve, cancel).await;
}

async fn relay(client: TcpStream, egress: Arc<Egress>) {
    let Ok(port) = client.local_addr().map(|address| address.port()) else {
        return;
    };
    let dialled = dial(&egress, Source::Code, &Target::localhost(port), None).await;
    let (host, mut recording) = match dialled {
        Ok(dialled) => (dialled.stream, dialled.recording),
        Err(failure) => {
            tracing::debug!(%failure, "connection to the host's loopback not relayed");
            // A reset: the nearest to a connection that was refused in the first place.
            drop(client.set_zero_linger());
            return;
        }
    };
    // As in `dial`, for the other direction.
    drop(client.set_nodelay(true));
    let (client, traffic) = Watched::client(client);
    tokio::select! {
        ended = copy(client, host, &egress.buffers) => if let Err(error) = ended {
            recording.broke();
            tracing::debug!(%error, "relayed connection ended early");
        },
        () = traffic.silent_for(egress.limits.silence) => {
            tracing::debug!("relayed connection ended: no byte passed for too long");
        }
    }
}
