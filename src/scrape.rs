//! Pages as documents: loads one in a session of its own and says what is on it; the session's
//! browser is kept for a while, so that whoever wants to go on finds the page as it was left.
//!
//! ```text
//! scrape ── lend ── attach ── goto ── actions ── take ── keep
//! session ─┬─ adopt what was kept
//!          └─ or lend, goto, actions again ── hand over
//! ```

mod actions;
mod capture;
mod config;
mod convert;
mod document;
mod error;
mod format;
mod keys;
mod load;
mod options;
mod perform;
mod tab;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::agent::{Models, Wanted};
use crate::egress::Blocking;
use crate::id::{ScrapeId, SessionId};
use crate::session::{
    self, Bill, Lent, Live, Registry, SessionOptions, SessionView, Settled, State,
};
use crate::store::{ScrapeRecord, SessionKind, Store};
use crate::tenant::{Caller, Owner};

pub use actions::{Action, ActionResults, Direction, Paper, ScrapedPage, ScriptResult};
pub use config::Config;
pub use document::Document;
pub use error::Error;
pub use format::{Format, Screenshot, Viewport};
pub use options::{Location, ScrapeOptions};

/// Beside the time of a scrape, so that its session does not end within it.
const SPARE: Duration = Duration::from_secs(60);
/// Longest `waitFor` of a replay, whose caller waits with a deadline.
const REPLAY_WAIT: u64 = 30_000;
/// Largest document that is kept to be read again.
const MAX_KEPT: usize = 32 << 20;

/// All scrapes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Scrapes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    store: Store,
    models: Models,
    config: Config,
    /// What may still be there to adopt.
    kept: Mutex<HashMap<ScrapeId, SessionId>>,
    /// Held by the one that makes a scrape's session.
    turns: Mutex<HashMap<ScrapeId, Weak<tokio::sync::Mutex<()>>>>,
    conversions: Arc<Semaphore>,
}

/// What the session that goes on from a scrape is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The browser the scrape was done in, when that is still kept, else a new one in which it is
    /// done again.
    Anew(Life),
    /// A session of the caller's, in which it is done again.
    In(SessionId),
}

/// How long the session of a scrape lives from its first interaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// In all, 30 s to 3600 s.
    pub ttl: Duration,
    /// Without an execution, 10 s to 3600 s.
    pub idle_ttl: Duration,
}

impl Default for Life {
    fn default() -> Self {
        let options = SessionOptions::default();
        Self {
            ttl: options.ttl,
            idle_ttl: options.idle_ttl,
        }
    }
}

impl Scrapes {
    /// Scrapes over these sessions, kept in this store.
    #[must_use]
    pub fn new(registry: Registry, store: Store, models: Models, config: Config) -> Self {
        if let Some(list) = &config.blocked {
            tracing::info!(
                hosts = list.len(),
                "scrapes leave out what is on the block list"
            );
        }
        let conversions = std::thread::available_parallelism().map_or(2, usize::from);
        Self(Arc::new(Inner {
            registry,
            store,
            models,
            config,
            kept: Mutex::default(),
            turns: Mutex::default(),
            conversions: Arc::new(Semaphore::new(conversions)),
        }))
    }

    /// Loads a page and takes from it what is asked for. A dropped call gives it up.
    ///
    /// # Errors
    /// Why there is no document.
    pub async fn scrape(&self, caller: &Caller, options: ScrapeOptions) -> Result<Document, Error> {
        let id = ScrapeId::generate();
        let (document, lent) = self.load(id, caller, &options).await?;
        let text = |error| tracing::error!(%error, "a scrape cannot be written as JSON");
        let json = serde_json::to_string(&document).map_err(text).ok();
        let record = ScrapeRecord {
            id,
            tenant: caller.owner.tenant.to_string(),
            user: caller.owner.user.to_string(),
            options: serde_json::to_string(&options).map_err(text).ok(),
            session: None,
        };
        let kept = json.filter(|json| json.len() <= MAX_KEPT);
        self.0.store.add_scrape(record, kept).await?;
        let session = lent.live().id();
        lent.keep(self.0.config.keep, self.0.config.keep_at_most);
        let mut kept = lock(&self.0.kept);
        kept.retain(|_, session| self.0.registry.is_kept(*session));
        kept.insert(id, session);
        Ok(document)
    }

    async fn load(
        &self,
        id: ScrapeId,
        caller: &Caller,
        options: &ScrapeOptions,
    ) -> Result<(Document, Lent), Error> {
        let config = &self.0.config;
        let wanted: Vec<&Wanted> = options.formats.iter().filter_map(Format::wanted).collect();
        // Before a page is loaded for nothing.
        let reader = (!wanted.is_empty()).then(|| self.0.models.reader());
        let reader = reader.transpose().map_err(Box::new)?;
        let (lent, deadline, limit) = self.lend(id, caller, options).await?;
        let live = lent.live();
        let _blocking = self.block_ads(&live, options);
        let work = async {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut tab = load::attach(&live, options, left).await?;
            let loaded = load::goto(&live, &mut tab, options).await?;
            let how = perform::How {
                mobile: options.mobile,
                max_html: config.max_html,
                is_replay: false,
            };
            let done = perform::all(&mut tab, &options.actions, how).await?;
            let taken = document::take(
                id,
                &tab,
                options,
                loaded,
                config.max_html,
                &self.0.conversions,
            );
            let mut document = taken.await?;
            if options.block_ads == Some(true) && config.blocked.is_none() {
                document.warn(
                    "blockAds: no scrape.block_list is configured; nothing was blocked".into(),
                );
            }
            document.actions = (!options.actions.is_empty()).then_some(done);
            tab.leave(load::must_hold(options));
            if let Some(reader) = &reader {
                let page = document.markdown.clone().unwrap_or_default();
                for &wanted in &wanted {
                    let found = reader.take(&page, wanted, deadline).await;
                    let found = found.map_err(|error| match Instant::now() < deadline {
                        true => Error::Extract(error),
                        false => Error::Timeout { limit },
                    })?;
                    document.extracted(wanted, found);
                }
                if !options.formats.contains(&Format::Markdown) {
                    document.markdown = None;
                }
            }
            Ok(document)
        };
        let document = tokio::select! {
            done = work => done,
            error = live.ends() => Err(error.into()),
        };
        let document = document.map_err(|error| match error {
            Error::Timeout { .. } => Error::Timeout { limit },
            other => other,
        })?;
        Ok((document, lent))
    }

    /// A session of its own for a scrape, and when all of it must be done.
    async fn lend(
        &self,
        id: ScrapeId,
        caller: &Caller,
        options: &ScrapeOptions,
    ) -> Result<(Lent, Instant, Duration), Error> {
        let (limit, deadline) = self.time(options);
        let life = limit + SPARE;
        let session = SessionOptions {
            ttl: life,
            idle_ttl: life,
            kind: SessionKind::Interact(id),
            profile: options.profile.clone(),
            ..SessionOptions::default()
        };
        let lending = self.0.registry.lend(caller, session);
        let lent = timeout_at(deadline, lending).await;
        let lent = lent.map_err(|_| Error::Timeout { limit })??;
        Ok((lent, deadline, limit))
    }

    /// How long a scrape may take, and until when that is.
    fn time(&self, options: &ScrapeOptions) -> (Duration, Instant) {
        let config = &self.0.config;
        let limit = options.time_limit(config.timeout, config.max_timeout);
        (limit, Instant::now() + limit)
    }

    /// Blocks what is configured, if it is to be, for as long as what this gives is held.
    fn block_ads(&self, live: &Live, options: &ScrapeOptions) -> Option<Blocking> {
        let list = self.0.config.blocked.as_ref()?;
        let is_wanted = options.block_ads.unwrap_or(true);
        let way_out = live.way_out().filter(|_| is_wanted)?;
        Some(way_out.block(Arc::clone(list), &options.url))
    }

    /// A scrape's document as JSON.
    ///
    /// # Errors
    /// When it is unknown, another owner's, or was too large to be kept.
    pub async fn document(&self, owner: &Owner, id: ScrapeId) -> Result<String, Error> {
        self.record(owner, id).await?;
        let document = self.0.store.scrape_document(id).await?;
        document.ok_or(Error::NotKept(id))
    }

    /// The session that goes on from a scrape. One comes out, however many ask at once; it goes on
    /// being made when the caller goes away.
    ///
    /// # Errors
    /// When the scrape is unknown or another owner's, when it cannot be done again, or when its
    /// session has ended: it is not made anew. When the session to begin with is not the caller's.
    pub async fn session(
        &self,
        caller: &Caller,
        id: ScrapeId,
        begin: Begin,
    ) -> Result<SessionId, Error> {
        let record = self.record(&caller.owner, id).await?;
        if let Some(session) = record.session {
            return self.live(&caller.owner, id, session).await;
        }
        let (this, caller, turn) = (self.clone(), caller.clone(), self.turn(id));
        let first = tokio::spawn(async move {
            let _turn = turn.lock().await;
            this.first(&caller, id, begin).await
        });
        first.await.map_err(|_| Error::Crashed)?
    }

    /// Makes the session, unless another has meanwhile.
    async fn first(&self, caller: &Caller, id: ScrapeId, begin: Begin) -> Result<SessionId, Error> {
        let record = self.record(&caller.owner, id).await?;
        if let Some(session) = record.session {
            return self.live(&caller.owner, id, session).await;
        }
        let session = match begin {
            Begin::In(session) => self.replay_in(caller, &record, session).await?,
            Begin::Anew(life) => match self.adopt(caller, id, life).await? {
                Some(session) => session.id,
                None => self.replay(caller, &record, life).await?.id,
            },
        };
        lock(&self.0.kept).remove(&id);
        if let Err(error) = self.0.store.set_scrape_session(id, session).await {
            if let Begin::Anew(_) = begin {
                // Nobody would find it again.
                self.0.registry.stop(&caller.owner, session).await?;
            }
            return Err(error.into());
        }
        Ok(session)
    }

    async fn adopt(
        &self,
        caller: &Caller,
        id: ScrapeId,
        life: Life,
    ) -> Result<Option<SessionView>, Error> {
        let kept = lock(&self.0.kept).get(&id).copied();
        let Some(kept) = kept else { return Ok(None) };
        let Life { ttl, idle_ttl } = life;
        let registry = &self.0.registry;
        Ok(registry.adopt(caller, kept, ttl, idle_ttl).await?)
    }

    async fn replay(
        &self,
        caller: &Caller,
        record: &ScrapeRecord,
        life: Life,
    ) -> Result<SessionView, Error> {
        let options = replayed(record).ok_or(Error::NoReplay)?;
        let using = options.profile.as_ref();
        self.0.registry.check_profile(&caller.owner, using)?;
        let (lent, deadline, _) = self.lend(record.id, caller, &options).await?;
        self.load_again(&lent.live(), &options, deadline).await?;
        Ok(lent.hand_over(life.ttl, life.idle_ttl).await?)
    }

    /// Does a scrape again in a session that there is; one that was not kept leaves its page as it is.
    async fn replay_in(
        &self,
        caller: &Caller,
        record: &ScrapeRecord,
        session: SessionId,
    ) -> Result<SessionId, Error> {
        let live = self.0.registry.live(&caller.owner, session).await?;
        if let Some(options) = replayed(record) {
            let (_, deadline) = self.time(&options);
            self.load_again(&live, &options, deadline).await?;
        }
        Ok(session)
    }

    async fn load_again(
        &self,
        live: &Live,
        options: &ScrapeOptions,
        deadline: Instant,
    ) -> Result<(), Error> {
        let _blocking = self.block_ads(live, options);
        let work = async {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut tab = load::attach(live, options, left).await?;
            load::goto(live, &mut tab, options).await?;
            let how = perform::How {
                mobile: options.mobile,
                max_html: self.0.config.max_html,
                is_replay: true,
            };
            perform::all(&mut tab, &options.actions, how).await?;
            tab.leave(load::must_hold(options));
            Ok(())
        };
        let done: Result<(), Error> = tokio::select! {
            done = work => done,
            error = live.ends() => return Err(error.into()),
        };
        done.map_err(|error| Error::Replay(Box::new(error)))
    }

    /// Ends the session made of a scrape.
    ///
    /// # Errors
    /// When the scrape is unknown or another owner's, or no session was made of it.
    pub async fn stop(&self, owner: &Owner, id: ScrapeId) -> Result<Settled, Error> {
        let record = self.record(owner, id).await.map_err(|error| match error {
            Error::Unknown(id) => Error::NeverInteracted(id),
            other => other,
        })?;
        let session = record.session.ok_or(Error::NeverInteracted(id))?;
        match self.0.registry.settle(owner, session).await {
            // Its record has expired.
            Err(session::Error::SessionUnknown(_)) => Ok(Settled {
                state: State::Stopped,
                bill: Bill::NOTHING,
                was_over: true,
                save_error: None,
            }),
            settled => Ok(settled?),
        }
    }

    async fn record(&self, owner: &Owner, id: ScrapeId) -> Result<ScrapeRecord, Error> {
        let record = self.0.store.scrape(id).await?.ok_or(Error::Unknown(id))?;
        if record.tenant != *owner.tenant || record.user != *owner.user {
            return Err(Error::Foreign(id));
        }
        Ok(record)
    }

    /// A scrape's session, while it lives.
    async fn live(
        &self,
        owner: &Owner,
        id: ScrapeId,
        session: SessionId,
    ) -> Result<SessionId, Error> {
        use session::Error as S;
        match self.0.registry.get(owner, session).await {
            Ok((view, _)) if view.state == State::Ready => Ok(session),
            Ok(_) | Err(S::SessionUnknown(_) | S::SessionEnded { .. }) => Err(Error::Destroyed(id)),
            Err(error) => Err(error.into()),
        }
    }

    fn turn(&self, id: ScrapeId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.0.turns);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(id, Arc::downgrade(&turn));
        turn
    }
}

/// How a scrape is done again; none when that was not kept.
fn replayed(record: &ScrapeRecord) -> Option<ScrapeOptions> {
    let options = record.options.as_deref()?;
    let mut options: ScrapeOptions = serde_json::from_str(options).ok()?;
    options.wait_for = options.wait_for.min(REPLAY_WAIT);
    Some(options)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
