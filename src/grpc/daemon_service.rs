//! `pagebox.v1.DaemonService`.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::call::answer;
use super::v1;
use super::v1::daemon_service_server::DaemonService;
use crate::sandbox::{Probe, ProbeState};
use crate::session::Registry;

type Probing = Pin<Box<dyn Future<Output = Vec<Probe>> + Send>>;

/// The host as the daemon sees it: examined once, when first asked for, in a task of its own. A
/// caller that goes away does not end it: the next one would start another browser.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    started: SystemTime,
    examine: Box<dyn Fn() -> Probing + Send + Sync>,
    probes: OnceLock<watch::Receiver<Option<Arc<[Probe]>>>>,
}

impl Host {
    /// Of a daemon that starts now.
    pub fn new(examine: impl Fn() -> Probing + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            started: SystemTime::now(),
            examine: Box::new(examine),
            probes: OnceLock::new(),
        }))
    }

    async fn probes(&self) -> Arc<[Probe]> {
        let begin = || {
            let (tell, told) = watch::channel(None);
            let examining = (self.0.examine)();
            tokio::spawn(async move { tell.send_replace(Some(examining.await.into())) });
            told
        };
        let mut told = self.0.probes.get_or_init(begin).clone();
        let probes = told.wait_for(Option::is_some).await;
        // An error only when the examination has panicked.
        let probes = probes.ok().and_then(|probes| probes.clone());
        probes.unwrap_or_else(|| Arc::new([not_examined()]))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// The service over a registry.
#[derive(Clone, Debug)]
pub(super) struct Daemons {
    registry: Registry,
    host: Host,
}

impl Daemons {
    pub(super) fn new(registry: Registry, host: Host) -> Self {
        Self { registry, host }
    }
}

#[tonic::async_trait]
impl DaemonService for Daemons {
    async fn get_daemon(
        &self,
        request: Request<v1::GetDaemonRequest>,
    ) -> Result<Response<v1::GetDaemonResponse>, Status> {
        let (metadata, _, _) = request.into_parts();
        answer("GetDaemon", &metadata, async {
            let probes = self.host.probes().await;
            let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let degraded = self.registry.degraded();
            Ok(v1::GetDaemonResponse {
                daemon: Some(v1::Daemon {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    start_time: Some(self.host.0.started.into()),
                    isolation: Some(v1::Isolation {
                        full: degraded.is_empty(),
                        degraded: degraded.to_vec(),
                    }),
                    probes: probes.iter().map(probe).collect(),
                    live_sessions: number(self.registry.live_sessions()),
                    max_sessions: number(self.registry.max_sessions()),
                    draining: self.registry.is_draining(),
                    kits_ready: number(self.registry.kits_ready()),
                }),
            })
        })
        .await
    }
}

fn not_examined() -> Probe {
    Probe {
        remedy: "pagebox doctor".into(),
        ..Probe::unknown("examination", "it failed; the daemon's log says more")
    }
}

fn probe(probe: &Probe) -> v1::HostProbe {
    let state = match probe.state {
        ProbeState::Works => v1::HostProbeState::Works,
        ProbeState::Degraded => v1::HostProbeState::Degraded,
        ProbeState::Refused => v1::HostProbeState::Refused,
        ProbeState::Unknown => v1::HostProbeState::Unknown,
    };
    v1::HostProbe {
        mechanism: probe.mechanism.clone(),
        state: state.into(),
        detail: probe.detail.clone(),
        remedy: probe.remedy.clone(),
        weakening: probe
            .weakening
            .map(|name| name.to_string())
            .unwrap_or_default(),
    }
}

/// A probe as a client received it, for those who print it.
impl From<v1::HostProbe> for Probe {
    fn from(probe: v1::HostProbe) -> Self {
        let state = match probe.state() {
            v1::HostProbeState::Works => ProbeState::Works,
            v1::HostProbeState::Degraded => ProbeState::Degraded,
            v1::HostProbeState::Refused => ProbeState::Refused,
            v1::HostProbeState::Unknown | v1::HostProbeState::Unspecified => ProbeState::Unknown,
        };
        Self {
            state,
            weakening: probe.weakening.parse().ok(),
            mechanism: probe.mechanism,
            detail: probe.detail,
            remedy: probe.remedy,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;

    use super::*;
    use crate::sandbox::Weakening;

    #[tokio::test]
    async fn callers_that_go_away_neither_end_nor_repeat_the_examination() {
        let begun = Arc::new(AtomicUsize::new(0));
        let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
        let wait = Mutex::new(Some(wait));
        let count = Arc::clone(&begun);
        let host = Host::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            let wait = wait.lock().unwrap().take().unwrap();
            Box::pin(async move {
                wait.await.unwrap();
                vec![not_examined()]
            })
        });
        for _ in 0..3 {
            let call = Box::pin(host.probes());
            assert!(call.now_or_never().is_none());
        }
        go_on.send(()).unwrap();
        assert_eq!(host.probes().await[..], [not_examined()]);
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_examination_that_panics_is_told_as_unknown() {
        let host = Host::new(|| Box::pin(async { panic!("on purpose") }));
        assert_eq!(host.probes().await[..], [not_examined()]);
    }

    #[test]
    fn a_probe_comes_back_as_it_was_sent() {
        let sent = Probe {
            mechanism: "session-uids".into(),
            state: ProbeState::Degraded,
            detail: "one uid".into(),
            remedy: "start as root".into(),
            weakening: Some(Weakening::SharedUid),
        };
        assert_eq!(Probe::from(probe(&sent)), sent);
        let works = Probe {
            state: ProbeState::Works,
            weakening: None,
            ..sent
        };
        assert_eq!(Probe::from(probe(&works)), works);
    }
}
