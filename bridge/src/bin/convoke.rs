//! `convoke`: shows and steers the cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    bridge::cli::main()
}
