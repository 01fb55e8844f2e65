//! What a daemon reads and opens before its parts start: settings, identity, the listener, the store.
//!
//! All that may wait for a disk is here, on a thread of its own.

use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use policy::NodeId;
use tracing::{error, info};
use units::generator::Gated;

use super::aside;
use crate::agent;
use crate::config::Config;
use crate::doors::Guests;
use crate::identity::{self, Enrolled, Machine};
use crate::leader;
use crate::net::{AddressBook, Admission, Book, DialTiming, Dialer, Listener};
use crate::paths::Paths;
use crate::session::Accord;
use crate::tls::NodeTls;

/// What the parts begin with.
pub(super) struct Opened {
    pub(super) config: Config,
    pub(super) enrolled: Enrolled,
    pub(super) machine: Machine,
    pub(super) gated: Gated,
    pub(super) tls: Arc<NodeTls>,
    pub(super) book: AddressBook,
    pub(super) guests: Arc<ArcSwap<Guests>>,
    pub(super) listener: Listener,
    pub(super) dialer: Dialer,
    /// Of this cluster and node, for what is said of its store.
    pub(super) mark: String,
    pub(super) accord: Accord,
    /// Of a voter, unless its store was set aside.
    pub(super) group: Option<leader::Opened>,
}

/// Opens it all.
///
/// # Errors
/// With the whole chain of causes; each names what to do.
pub(super) async fn open(paths: Paths) -> anyhow::Result<Opened> {
    let paths = &paths;
    let config = Config::load(paths)?;
    let Some(enrolled) = identity::load(paths)? else {
        let file = paths.identity_file();
        if paths.store_file().exists() || agent::any_left(paths) {
            anyhow::bail!("`{}` is missing: {}", file.display(), identity::remedy(&paths.identity_dir()));
        }
        anyhow::bail!(
            "this machine is in no cluster; make one with `convoke init`, or join one with `convoke join TOKEN`"
        );
    };
    let node = NodeId(enrolled.identity.node);
    let name = &enrolled.identity.node_name;
    info!(node = node.0, %name, cluster = %enrolled.identity.cluster_name, "starting");

    // The cluster turns away a machine that it takes for another, and then its units stop.
    let machine = Machine::read(paths)?;
    let gated = agent::load_gated(paths);
    let tls = NodeTls::new(&enrolled.credentials)?;
    let book = AddressBook::new(Book::load(&paths.peers_file()).context("cannot read the address book")?);
    let guests: Arc<ArcSwap<Guests>> = Arc::default();
    let listener = listen(&config, &tls, &guests, &book)?;
    let dialer = Dialer::new(tls.clone(), book.clone(), DialTiming::default());

    let accord = Accord::default();
    let mark = aside::mark(node, enrolled.identity.cluster);
    let aside = match enrolled.identity.role.votes() {
        true => aside::read(paths, &mark)?,
        false => None,
    };
    if let Some(why) = &aside {
        error!("{}", aside::line(paths, why));
        accord.set_aside();
    }
    let group = match enrolled.identity.role.votes() && aside.is_none() {
        true => Some(leader::open(paths, &enrolled, dialer.clone(), accord.clone()).await?),
        false => None,
    };
    Ok(Opened { config, enrolled, machine, gated, tls, book, guests, listener, dialer, mark, accord, group })
}

fn listen(
    config: &Config,
    tls: &Arc<NodeTls>,
    guests: &Arc<ArcSwap<Guests>>,
    book: &AddressBook,
) -> anyhow::Result<Listener> {
    let guests = Arc::clone(guests);
    let admission: Admission = Arc::new(move |node| guests.load().admit(node));
    Listener::bind(config.listen, Arc::clone(tls), admission, book.clone())
        .with_context(|| format!("cannot listen on {}; is another convoked running?", config.listen))
}
