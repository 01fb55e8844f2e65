//! A cluster unit's files.

use anyhow::Result;
use lab::Node;

/// The service that writes down when and where it runs, as a cluster unit.
#[derive(Clone, Debug)]
pub struct UnitFile {
    name: String,
    fragment: Option<String>,
    section: String,
    unit: String,
    service: String,
    guard: bool,
}

impl UnitFile {
    /// An exclusive unit of this name, whose fragment is in the nodes already (`witness.service`, `witness@NAME.service`)
    /// or given by [`fragment`](Self::fragment). It has the static guard that `convoke verify` asks for.
    #[must_use]
    pub fn new(name: &str) -> UnitFile {
        UnitFile {
            name: name.into(),
            fragment: None,
            section: String::new(),
            unit: String::new(),
            service: String::new(),
            guard: true,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text of its own file.
    #[must_use]
    pub fn fragment(mut self, text: &str) -> UnitFile {
        self.fragment = Some(text.into());
        self
    }

    /// A line of `[X-Convoke]`.
    #[must_use]
    pub fn key(mut self, line: &str) -> UnitFile {
        self.section.push_str(&format!("{line}\n"));
        self
    }

    /// A line of `[Unit]` in the drop-in.
    #[must_use]
    pub fn unit(mut self, line: &str) -> UnitFile {
        self.unit.push_str(&format!("{line}\n"));
        self
    }

    /// A line of `[Service]` in the drop-in.
    #[must_use]
    pub fn service(mut self, line: &str) -> UnitFile {
        self.service.push_str(&format!("{line}\n"));
        self
    }

    /// Without the static guard: what holds is the generator's gate alone.
    #[must_use]
    pub fn unguarded(mut self) -> UnitFile {
        self.guard = false;
        self
    }

    /// Where its drop-in is.
    #[must_use]
    pub fn drop_in(&self) -> String {
        format!("/etc/systemd/system/{}.d/convoke.conf", self.name)
    }

    /// The text of its drop-in.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let guard = if self.guard { "AssertPathExists=/run/convoke/permits/%n\n" } else { "" };
        for (heading, lines) in [("Unit", format!("{guard}{}", self.unit)), ("Service", self.service.clone())]
        {
            if !lines.is_empty() {
                text.push_str(&format!("[{heading}]\n{lines}"));
            }
        }
        text + "[X-Convoke]\n" + &self.section
    }

    /// Writes its files into a node; PID 1 has to reload.
    pub fn write(&self, node: &Node) -> Result<()> {
        if let Some(text) = &self.fragment {
            node.write(&format!("/etc/systemd/system/{}", self.name), text)?;
        }
        node.write(&self.drop_in(), self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_has_the_guard_and_the_section() {
        let unit = UnitFile::new("a.service").key("Replicas=1").service("Restart=no");
        assert_eq!(
            unit.text(),
            "[Unit]\nAssertPathExists=/run/convoke/permits/%n\n[Service]\nRestart=no\n[X-Convoke]\nReplicas=1\n"
        );
        assert_eq!(UnitFile::new("a.timer").unguarded().text(), "[X-Convoke]\n");
    }
}
