//! The disk that all nodes share, and a path to it that is taken.

use anyhow::{Result, ensure};
use lab::{Lab, Suite};

use super::Checks;

pub(super) fn disk(checks: &mut Checks, suite: Suite, lab: &Lab) {
    let (n1, n2) = (lab.node(1), lab.node(2));
    let write = |text: &str| format!("printf {text} | dd of=/dev/shared-disk conv=notrunc status=none");
    let read = "head -c 3 /dev/shared-disk";
    let agent = |action: &str, code: i32| -> Result<()> {
        let text = format!("action={action}\nplug=n1\nip={}\n", lab.array().address());
        let out = n2.feed("fence_array", text.as_bytes())?;
        ensure!(out.code == code, "{action}: {} instead of {code}\n{}{}", out.code, out.stdout, out.stderr);
        Ok(())
    };
    checks.check(
        suite,
        "a path to the shared disk is taken, outlasts a power cycle, and is given back",
        || {
            n1.run_ok(&write("one"))?;
            ensure!(n2.run_ok(read)? == "one", "n2 does not see what n1 wrote");
            agent("status", 0)?;
            agent("off", 0)?;
            agent("status", 2)?;
            ensure!(!lab.array().is_open(1) && lab.array().is_open(2), "another path was taken");
            for line in [write("two"), read.to_owned()] {
                let out = n1.run(&line)?;
                ensure!(
                    out.stderr.contains("Input/output error"),
                    "`{line}` exits {}: {}",
                    out.code,
                    out.stderr
                );
            }
            ensure!(lab.array().read()?.starts_with(b"one"), "what was refused is on the disk");
            n1.power_off()?;
            n1.boot()?;
            ensure!(!n1.run(read)?.stdout.contains("one"), "n1 has its path again");
            agent("on", 0)?;
            ensure!(n1.run_ok(read)? == "one", "n1 has not got its path");
            lab.open_paths()?;
            Ok(String::new())
        },
    );
}
