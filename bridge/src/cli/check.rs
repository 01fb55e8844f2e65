//! `convoke check`: what is wrong with the set of units, and with where the votes are.

use super::bus::Bus;
use super::exit::{Code, Failure};
use super::out::{self, Style};
use super::{look, render};
use crate::api::model::FindingLine;

pub(super) async fn check(bus: &Bus, json: bool) -> Result<(), Failure> {
    let picture = bus.overview().await?;
    let Some(findings) = &picture.findings else {
        return Err(if picture.quorum {
            Failure::new(
                Code::Failed,
                "the node that leads runs an older convoked, which does not check this",
            )
            .hint("`convoke status` names it; update it, or let another lead")
        } else {
            Failure::new(
                Code::NoQuorum,
                "no quorum, and this node keeps no log: it does not know the units' files",
            )
            .hint("ask on a voter, or `convoke verify` for the files of this node")
        });
    };
    let style = Style::of_stdout();
    if json {
        out::json(findings);
    } else {
        look::aged(&picture, json, style);
        out::print(&render::findings(findings, picture.units.len(), style));
    }
    look::confirmed(&picture)?;
    judged(findings)
}

/// What a script wants to know: whether anything keeps a unit from running, or the witness from being of use.
fn judged(findings: &[FindingLine]) -> Result<(), Failure> {
    let errors = || findings.iter().filter(|finding| finding.severity == "error");
    let count = match errors().count() {
        0 => return Ok(()),
        1 => "1 error".to_owned(),
        several => format!("{several} errors"),
    };
    let hint = if errors().all(|error| error.unit.is_empty()) {
        "a witness is there for the loss of another vote: it must not be lost together with that"
    } else {
        "what an error is about cannot run, in whole or in part, as long as that stands"
    };
    Err(Failure::new(Code::Failed, format!("{count} among what was found")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::samples::finding;

    #[test]
    fn only_errors_fail() {
        assert!(judged(&[]).is_ok());
        assert!(judged(&[finding("warning", "a.service")]).is_ok());
        let found = [finding("error", "a.service"), finding("warning", "b.service")];
        assert_eq!(judged(&found).expect_err("an error").code, Code::Failed);
    }
}
