//! One resource as a service: `run` is its main process, `stop` its `ExecStopPost=`, `gone` its `GoneExec=`.

use std::io;
use std::path::Path;
use std::time::Duration;

use libsystemd::daemon::{NotifyState, notify};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::agent::{Agent, Ended};
use super::metadata::{Metadata, MetadataError};
use super::record::Record;
use super::resource::{Finding, Resource, ResourceError};

/// Between two attempts at a stop that failed.
const STOP_PAUSE: Duration = Duration::from_secs(2);
/// What `GoneExec=` gives a program, less what it takes to start one.
const GONE_LIMIT: Duration = Duration::from_millis(4_500);
/// Beyond the agent's own times, until systemd is to lose its patience.
const SLACK: Duration = Duration::from_secs(10);

const SUCCESS: Ended = Ended::Code(0);
const NOT_RUNNING: Ended = Ended::Code(7);
/// Running, promoted, and the same with a warning: it runs.
const RUNNING: [Ended; 4] = [SUCCESS, Ended::Code(8), Ended::Code(190), Ended::Code(191)];

/// Why a resource does not run, or is not known to be gone.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its file is wrong.
    #[error(transparent)]
    File(#[from] ResourceError),
    /// The file does not fit the agent.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Misfit(Vec<Finding>),
    /// The agent says nothing useful of itself.
    #[error("{agent}: {source}")]
    Metadata {
        /// The agent.
        agent: String,
        /// Why not.
        source: MetadataError,
    },
    /// The agent cannot be run.
    #[error("{agent} cannot be run: {source}")]
    Agent {
        /// The agent.
        agent: String,
        /// Why not.
        source: io::Error,
    },
    /// An action failed.
    #[error("{agent}: {action} failed: {}", .ended.text())]
    Failed {
        /// The agent.
        agent: String,
        /// The action.
        action: &'static str,
        /// How it ended.
        ended: Ended,
    },
    /// It was started, and does not run.
    #[error("{agent}: {}", .ended.text())]
    NotRunning {
        /// The agent.
        agent: String,
        /// How `monitor` ended.
        ended: Ended,
    },
    /// It was stopped, and is still there.
    #[error("{instance} is not gone: {agent} says `{}`", .ended.text())]
    Left {
        /// The instance.
        instance: String,
        /// The agent.
        agent: String,
        /// How `monitor` ended.
        ended: Ended,
    },
    /// What was started is not recorded, or not to be read.
    #[error("/run/convoke-ocf cannot be used: {0}")]
    Record(#[source] io::Error),
    /// No signals.
    #[error("signals cannot be had: {0}")]
    Signals(#[source] io::Error),
}

impl ServiceError {
    /// Whether another try cannot help before somebody mends a file.
    #[must_use]
    pub fn is_of_the_file(&self) -> bool {
        matches!(self, Self::File(_) | Self::Misfit(_))
    }
}

/// An agent with the environment and the times of one resource.
struct Bound<'a> {
    instance: &'a str,
    agent: Agent,
    record: Record,
}

impl<'a> Bound<'a> {
    fn recorded(root: &Path, instance: &'a str) -> Result<Option<Self>, ServiceError> {
        let Some(record) = Record::read(root, instance).map_err(ServiceError::Record)? else {
            return Ok(None);
        };
        let odd = || ServiceError::Record(io::Error::other(format!("`{}` is no agent", record.agent)));
        let agent = Agent::named(root, &record.agent).ok_or_else(odd)?;
        Ok(Some(Self { instance, agent, record }))
    }

    async fn act(&self, action: &str, limit: Duration) -> Result<Ended, ServiceError> {
        let mut variables = self.record.variables.clone();
        // With 0 a `monitor` is the probe of a resource that is not expected: some agents look less closely then.
        let monitored = (action == "monitor").then(|| self.record.interval.max(Duration::from_millis(1)));
        let interval = monitored.unwrap_or_default().as_millis().to_string();
        variables.insert("OCF_RESKEY_CRM_meta_interval".to_owned(), interval);
        let ended = self.agent.act(action, self.instance, &variables, limit).await;
        ended.map_err(|source| ServiceError::Agent { agent: self.agent.name(), source })
    }

    async fn look(&self) -> Result<(), ServiceError> {
        let ended = self.act("monitor", self.record.monitor).await?;
        if RUNNING.contains(&ended) {
            return Ok(());
        }
        Err(ServiceError::NotRunning { agent: self.agent.name(), ended })
    }

    /// From the start until somebody asks for the end, or it does not run. An action is not broken off: it would leave
    /// something half done.
    async fn live(&self, start: Duration, end: &mut Signal) -> Result<(), ServiceError> {
        let (ended, asked) = to_its_end(self.act("start", start), end).await;
        match ended? {
            _ if asked => return Ok(()),
            SUCCESS => {}
            ended => return Err(ServiceError::Failed { agent: self.agent.name(), action: "start", ended }),
        }
        let (running, mut asked) = to_its_end(self.look(), end).await;
        running?;
        if !asked {
            let name = self.agent.name();
            tell(&[NotifyState::Ready, NotifyState::Status(format!("{name} runs it"))]);
        }
        while !asked {
            tokio::select! {
                _ = end.recv() => return Ok(()),
                () = tokio::time::sleep(self.record.interval) => {}
            }
            let running;
            (running, asked) = to_its_end(self.look(), end).await;
            running?;
        }
        Ok(())
    }

    async fn stop(&self, root: &Path) -> Result<(), ServiceError> {
        match self.act("stop", self.record.stop).await? {
            SUCCESS => Record::remove(root, self.instance).map_err(ServiceError::Record),
            ended => Err(ServiceError::Failed { agent: self.agent.name(), action: "stop", ended }),
        }
    }
}

/// Starts the resource, tells systemd, and looks at it until it is asked to end or finds that it does not run.
///
/// What does not run is stopped once; [`stop`] follows, however this ends.
///
/// # Errors
/// What is wrong with the file; how `start` or `monitor` failed.
pub async fn run(root: &Path, instance: &str) -> Result<(), ServiceError> {
    let mut end = signal(SignalKind::terminate()).map_err(ServiceError::Signals)?;
    let resource = Resource::read(root, instance)?;
    let (agent, name) = (resource.agent.clone(), resource.agent.name());
    let said = agent.metadata().await;
    let said = said.map_err(|source| ServiceError::Agent { agent: name.clone(), source })?;
    let metadata =
        Metadata::parse(&said).map_err(|source| ServiceError::Metadata { agent: name.clone(), source })?;
    let found = resource.check(&metadata);
    if !found.is_empty() {
        return Err(ServiceError::Misfit(found));
    }
    if let Some(before) = Bound::recorded(root, instance)? {
        eprintln!("{instance} was never seen to stop; it is stopped first");
        extend(before.record.stop + SLACK);
        before.stop(root).await?;
    }
    let (start, interval) = (resource.limit(&metadata, "start"), resource.interval(&metadata));
    let record = Record {
        agent: name.clone(),
        variables: resource.variables(),
        stop: resource.limit(&metadata, "stop"),
        monitor: resource.limit(&metadata, "monitor"),
        interval,
    };
    let validate = metadata.action("validate-all").map(|_| resource.limit(&metadata, "validate-all"));
    let patience = start + record.monitor + validate.unwrap_or_default() + SLACK;
    extend(patience);
    let bound = Bound { instance, agent, record };
    if let Some(limit) = validate {
        let ended = bound.act("validate-all", limit).await?;
        if ended != SUCCESS {
            return Err(ServiceError::Failed { agent: name, action: "validate-all", ended });
        }
    }
    bound.record.keep(root, instance).map_err(ServiceError::Record)?;
    let lived = bound.live(start, &mut end).await;
    // As long as we live, systemd kills nothing that the agent has started: a database stops as its agent stops it.
    if lived.is_err()
        && let Err(error) = bound.stop(root).await
    {
        eprintln!("{error}");
    }
    lived
}

/// Stops what was started, and tries again until it is stopped: systemd says when that is too late.
///
/// # Errors
/// If the record of what was started cannot be used.
pub async fn stop(root: &Path, instance: &str) -> Result<(), ServiceError> {
    let Some(bound) = Bound::recorded(root, instance)? else { return Ok(()) };
    while let Err(error) = bound.stop(root).await {
        eprintln!("{error}; tried again in {} s", STOP_PAUSE.as_secs());
        tokio::time::sleep(STOP_PAUSE).await;
    }
    Ok(())
}

/// Says whether nothing of the resource is left on this machine.
///
/// # Errors
/// If its agent does not say `not running`.
pub async fn gone(root: &Path, instance: &str) -> Result<(), ServiceError> {
    let Some(bound) = Bound::recorded(root, instance)? else { return Ok(()) };
    match bound.act("monitor", bound.record.monitor.min(GONE_LIMIT)).await? {
        // Only a stop that worked takes the record away: somebody may ask in the midst of a start.
        NOT_RUNNING => Ok(()),
        ended => Err(ServiceError::Left { instance: instance.to_owned(), agent: bound.agent.name(), ended }),
    }
}

/// Waits for something to its end, and says whether we were asked to end meanwhile.
async fn to_its_end<T>(work: impl Future<Output = T>, end: &mut Signal) -> (T, bool) {
    let mut asked = false;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, asked),
            _ = end.recv(), if !asked => asked = true,
        }
    }
}

/// Before what takes its time.
fn extend(patience: Duration) {
    tell(&[NotifyState::Other(format!("EXTEND_TIMEOUT_USEC={}", patience.as_micros()))]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = notify(false, states) {
        eprintln!("systemd was not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::metadata::tests::LAMP;
    use super::*;

    /// An agent that keeps its lamp in a file, and does as the files `fail-ACTION` beside it say.
    fn place(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("scratch directory");
        let (agents, files) =
            (dir.path().join("usr/lib/ocf/resource.d/test"), dir.path().join("etc/convoke/ocf"));
        std::fs::create_dir_all(&agents).expect("directory");
        std::fs::create_dir_all(&files).expect("directory");
        std::fs::write(files.join("lamp.conf"), text).expect("file");
        std::fs::write(dir.path().join("xml"), LAMP).expect("file");
        let script = format!(
            "#!/bin/sh\ncd {0} || exit 1\n[ \"$1\" = meta-data ] && exec cat xml\n\
             echo \"$1 $OCF_RESOURCE_INSTANCE $OCF_RESKEY_room\" >>log\n[ -e \"fail-$1\" ] && exit 1\n\
             [ -n \"$NOTIFY_SOCKET\" ] && exit 1\n\
             case $1 in start) : >lit-$OCF_RESKEY_room ;; stop) rm -f lit-$OCF_RESKEY_room ;;\n\
             monitor) [ -e lit-$OCF_RESKEY_room ] || exit 7 ;; esac\nexit 0\n",
            dir.path().display()
        );
        let path = agents.join("Lamp");
        std::fs::write(&path, script).expect("file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        dir
    }

    const HALL: &str = "OCF_AGENT=ocf:test:Lamp\nOCF_RESKEY_room=hall\nOCF_MONITOR_INTERVAL=100ms\n";

    fn log(dir: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn what_was_started_is_stopped_as_it_was_started() {
        let dir = place(HALL);
        let root = dir.path();
        std::fs::write(root.join("fail-monitor"), "").expect("file");
        let error = run(root, "lamp").await.expect_err("it does not run").to_string();
        assert_eq!(error, "ocf:test:Lamp: generic error (1)");
        assert_eq!(
            log(root),
            ["validate-all lamp hall", "start lamp hall", "monitor lamp hall", "stop lamp hall"]
        );
        stop(root, "lamp").await.expect("stopped already");
        assert_eq!(log(root).len(), 4, "what is known to be stopped is not stopped again");
        std::fs::write(root.join("fail-stop"), "").expect("file");
        run(root, "lamp").await.expect_err("it does not run");
        std::fs::remove_file(root.join("fail-stop")).expect("there");
        // The file is written anew meanwhile, and then is wrong.
        std::fs::write(root.join("etc/convoke/ocf/lamp.conf"), "OCF_RESKEY_room=cellar").expect("file");
        let left = gone(root, "lamp").await.expect_err("it is there").to_string();
        assert_eq!(left, "lamp is not gone: ocf:test:Lamp says `generic error (1)`");
        std::fs::remove_file(root.join("fail-monitor")).expect("there");
        let left = gone(root, "lamp").await.expect_err("it is there").to_string();
        assert_eq!(left, "lamp is not gone: ocf:test:Lamp says `success (0)`");
        stop(root, "lamp").await.expect("stopped");
        assert_eq!(log(root).last().map(String::as_str), Some("stop lamp hall"));
        assert!(!root.join("lit-hall").exists());
        let before = log(root).len();
        gone(root, "lamp").await.expect("gone");
        stop(root, "lamp").await.expect("stopped already");
        assert_eq!(log(root).len(), before, "what is known to be gone is not asked for");
    }

    #[tokio::test]
    async fn a_stop_that_fails_is_tried_again_and_leaves_it_there() {
        let dir = place(HALL);
        let root = dir.path();
        std::fs::write(root.join("fail-start"), "").expect("file");
        std::fs::write(root.join("fail-stop"), "").expect("file");
        let error = run(root, "lamp").await.expect_err("it does not start").to_string();
        assert_eq!(error, "ocf:test:Lamp: start failed: generic error (1)");
        let never = tokio::time::timeout(Duration::from_secs(3), stop(root, "lamp")).await;
        assert!(never.is_err(), "it was never stopped");
        assert_eq!(
            log(root).iter().filter(|line| line.starts_with("stop")).count(),
            3,
            "once by the main process"
        );
        // It is not started beside what may be left of it.
        let error = run(root, "lamp").await.expect_err("the stop fails").to_string();
        assert_eq!(error, "ocf:test:Lamp: stop failed: generic error (1)");
        gone(root, "lamp").await.expect("its agent says that it does not run");
        std::fs::remove_file(root.join("fail-stop")).expect("there");
        stop(root, "lamp").await.expect("and is still asked to stop it");
        assert_eq!(log(root).last().map(String::as_str), Some("stop lamp hall"));
    }

    #[tokio::test]
    async fn a_wrong_file_starts_nothing() {
        let dir = place("OCF_AGENT=ocf:test:Lamp\nOCF_RESKEY_rom=hall\n");
        let error = run(dir.path(), "lamp").await.expect_err("a wrong file");
        assert!(error.is_of_the_file(), "{error}");
        let text = error.to_string();
        assert!(text.contains("lamp.conf:2: ") && text.contains("needs `room`"), "{text}");
        assert_eq!(log(dir.path()), Vec::<String>::new());
        std::fs::write(dir.path().join("etc/convoke/ocf/lamp.conf"), "OCF_AGENT=ocf:test:Lump")
            .expect("file");
        let error = run(dir.path(), "lamp").await.expect_err("no such agent");
        assert!(error.to_string().starts_with("ocf:test:Lump cannot be run: "), "{error}");
    }
}
