//! The cluster daemon.

use std::io;
use std::process::ExitCode;

use bridge::config::Config;
use bridge::paths::Paths;
use bridge::{daemon, log};
use clap::Parser;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;
use units::systemd::journal::Journal;

/// Convoke's daemon: drives this node's cluster units, and takes part in the cluster's decisions.
///
/// systemd starts it (convoked.service); settings are in /etc/convoke/convoke.toml.
#[derive(Debug, Parser)]
#[command(name = "convoked", version)]
struct Arguments {}

fn main() -> ExitCode {
    Arguments::parse();
    let paths = Paths::default();
    // Without a thread for it there is none for the runtime either, and the daemon ends.
    let journal = Journal::start().ok();
    log::begin(filter(&paths), journal.as_ref());
    if let Err(why) = lock_memory() {
        tracing::warn!(
            %why,
            "this daemon's memory is not locked, so it may be slow under memory pressure; it needs CAP_IPC_LOCK, or no limit"
        );
    }
    // One worker: a second one is woken, and sent to sleep again, for nearly every frame, which was a fifth of what an idle
    // daemon costs. What may take long, a large plan or the disk, gets a thread of its own where it is called.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(daemon::run(paths, journal.clone()));
            // A forecast that is being made, or a read of a slow disk, is no reason to hold up the next daemon: nobody keeps
            // this node's lease meanwhile.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error.into()),
    };
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    };
    log::end(journal.as_ref());
    code
}

/// What was used once stays in memory: whoever has to stop units in time waits neither for swap nor for a page of this program
/// on a disk that does not answer. Child processes do not inherit it.
fn lock_memory() -> io::Result<()> {
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_some() {
        // Whoever may lock any amount may under any limit. Under one that counts a thread could not begin later, as its stack
        // counts whole.
        setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..limit })?;
    }
    let locked = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    setrlimit(Resource::Memlock, limit)?;
    Ok(locked?)
}

/// What is logged: what `convoke.toml` says, or `CONVOKE_LOG`.
fn filter(paths: &Paths) -> EnvFilter {
    let level = Config::load_within(paths, daemon::READ).map_or("info", |config| config.log.word());
    EnvFilter::try_from_env("CONVOKE_LOG").unwrap_or_else(|_| {
        EnvFilter::new(format!("warn,openraft=error,bridge={level},units={level},consensus={level}"))
    })
}
