//! `convoke ocf`: resource agents as units. Needs neither daemon nor cluster.

use std::path::Path;

use super::args::Ocf;
use super::exit::{Code, Failure};
use super::out;
use crate::ocf::{self, Agent, Metadata, Resource, ResourceError, ServiceError};

/// What is said where there is none.
const PACKAGE: &str = "on Debian the package resource-agents has them";

pub(super) async fn ocf(root: &Path, verb: Ocf, json: bool) -> Result<(), Failure> {
    match verb {
        Ocf::List => list(root),
        Ocf::Describe { agent } => describe(root, &agent, json).await,
        Ocf::Check { name } => check(root, &name).await,
        Ocf::Run { name } => {
            knows_when_it_is_gone(root, &name)?;
            ocf::run(root, &name).await.map_err(|error| service(&error))
        }
        Ocf::Stop { name } => ocf::stop(root, &name).await.map_err(|error| service(&error)),
        Ocf::Gone { name } => ocf::gone(root, &name).await.map_err(|error| service(&error)),
    }
}

fn service(error: &ServiceError) -> Failure {
    Failure::of(if error.is_of_the_file() { Code::Usage } else { Code::Failed }, error)
}

/// A cluster unit whose end nobody can tell from a failed stop would run twice.
fn knows_when_it_is_gone(root: &Path, name: &str) -> Result<(), Failure> {
    let unit = format!("convoke-ocf@{name}.service");
    let Some(known) = units::unit(root, &unit) else { return Ok(()) };
    if let Some(first) = known.diagnostics.iter().find(|found| found.severity == units::Severity::Error) {
        return Err(Failure::new(Code::Usage, format!("{unit}: {}", first.message))
            .hint(format!("`convoke verify {unit}` shows it")));
    }
    if known.section.is_some_and(|section| section.gone.is_some()) {
        return Ok(());
    }
    let text = format!(
        "{unit} is a cluster unit without `GoneExec=`: a stop that failed would pass for one that worked"
    );
    Err(Failure::new(Code::Usage, text).hint(
        "write `GoneExec=/usr/bin/convoke ocf gone %i` below [X-Convoke], then systemctl daemon-reload",
    ))
}

fn list(root: &Path) -> Result<(), Failure> {
    let agents = ocf::installed(root).map_err(|error| Failure::of(Code::Failed, &error))?;
    if agents.is_empty() {
        out::say(&format!("no resource agent is installed on this machine; {PACKAGE}"));
    }
    for agent in agents {
        out::say(&agent);
    }
    Ok(())
}

async fn metadata(agent: &Agent) -> Result<Metadata, Failure> {
    let name = agent.name();
    let said = agent.metadata().await.map_err(|error| {
        let failure = Failure::new(Code::NotFound, format!("{name} cannot be run: {error}"));
        failure.hint(format!("`convoke ocf list` shows what is installed; {PACKAGE}"))
    })?;
    Metadata::parse(&said).map_err(|error| {
        let why = Failure::of(Code::Failed, &error).text;
        Failure::new(Code::Failed, format!("{name} cannot be used: {why}"))
    })
}

async fn describe(root: &Path, name: &str, json: bool) -> Result<(), Failure> {
    let agent = Agent::named(root, name).ok_or_else(|| {
        Failure::new(Code::Usage, format!("`{name}` is no name of an agent"))
            .hint("write ocf:PROVIDER:TYPE, as ocf:heartbeat:IPaddr2")
    })?;
    let metadata = metadata(&agent).await?;
    if json {
        out::json(&metadata);
        return Ok(());
    }
    out::say(&format!("{}: {}", agent.name(), metadata.short));
    if metadata.promotable() {
        out::say("  Its copies can be promoted. As a unit it is started and never promoted.");
    }
    out::say("Parameters, in /etc/convoke/ocf/NAME.conf:");
    for parameter in &metadata.parameters {
        let default = parameter.default.as_deref().filter(|text| !text.is_empty());
        let default = default.map_or_else(String::new, |text| format!(", else `{text}`"));
        let needed = if parameter.required { ", required" } else { "" };
        out::say(&format!("  OCF_RESKEY_{} ({}{needed}{default})", parameter.name, parameter.kind));
        if !parameter.short.is_empty() {
            out::say(&format!("      {}", parameter.short));
        }
    }
    out::say("Times, unless the file sets others:");
    for action in ["start", "stop", "monitor"].into_iter().filter_map(|name| metadata.action(name)) {
        let timeout = action.timeout.map_or_else(|| "20 s".to_owned(), |it| format!("{} s", it.as_secs()));
        let interval = action.interval.map_or_else(String::new, |it| format!(", every {} s", it.as_secs()));
        out::say(&format!("  {}: {timeout} at the most{interval}", action.name));
    }
    Ok(())
}

async fn check(root: &Path, name: &str) -> Result<(), Failure> {
    let resource = Resource::read(root, name).map_err(|error| {
        let failure = Failure::of(Code::Usage, &error);
        match error {
            ResourceError::Unreadable { .. } => {
                failure.hint("write the file; convoke-ocf@.service(8) has an example")
            }
            _ => failure,
        }
    })?;
    let metadata = metadata(&resource.agent).await?;
    let found = resource.check(&metadata);
    if !found.is_empty() {
        let text: Vec<_> = found.iter().map(ToString::to_string).collect();
        return Err(Failure::new(Code::Usage, text.join("\n")));
    }
    let limit = |action| resource.limit(&metadata, action).as_secs();
    out::say(&format!(
        "{name}: {}, started within {} s, looked at every {} s, stopped within {} s",
        resource.agent.name(),
        limit("start"),
        resource.interval(&metadata).as_secs_f64(),
        limit("stop"),
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The unit of the package, on a machine with its program.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("scratch directory");
        let put = |below: &str, text: &str| {
            let path = root.path().join(below);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        let unit = include_str!("../../../packaging/systemd/convoke-ocf@.service");
        put("usr/lib/systemd/system/convoke-ocf@.service", unit);
        put("usr/bin/convoke", "");
        let program = fs::File::open(root.path().join("usr/bin/convoke")).expect("there");
        program.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
        root
    }

    #[test]
    fn an_instance_with_a_drop_in_is_a_cluster_unit_and_the_template_none() {
        let root = root();
        let names = || -> Vec<String> {
            let units = units::discover(root.path());
            units.into_iter().map(|unit| unit.id).collect()
        };
        assert_eq!(names(), Vec::<String>::new());
        let folder = root.path().join("etc/systemd/system/convoke-ocf@ip.service.d");
        fs::create_dir_all(&folder).expect("made");
        knows_when_it_is_gone(root.path(), "ip").expect("no cluster unit");
        fs::write(folder.join("cluster.conf"), "[X-Convoke]\nReplicas=1\n").expect("written");
        let refused = knows_when_it_is_gone(root.path(), "ip").expect_err("nobody says that it is gone");
        assert!(refused.text.contains("without `GoneExec=`"), "{refused}");
        let text = "[Unit]\nAssertPathExists=/run/convoke/permits/%n\n[X-Convoke]\nGoneExec=/usr/bin/convoke ocf gone %i\n";
        fs::write(folder.join("cluster.conf"), text).expect("written");
        knows_when_it_is_gone(root.path(), "ip").expect("its agent does");
        assert_eq!(names(), ["convoke-ocf@ip.service"]);
        let findings = units::verify::verify(root.path(), &names());
        let said: Vec<_> = findings.iter().map(|finding| finding.render()).collect();
        assert!(said.is_empty(), "{said:#?}");
        let unit = units::unit(root.path(), "convoke-ocf@ip.service").expect("a cluster unit");
        let gone = unit.section.and_then(|section| section.gone).expect("a program");
        assert_eq!((gone.path.as_str(), gone.args.join(" ")), ("/usr/bin/convoke", "ocf gone ip".to_owned()));
    }
}
