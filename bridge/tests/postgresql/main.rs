//! The programs of the PostgreSQL recipe, on servers and data directories in every state that was seen on real ones.
//!
//! Each row is a state, and what the programs then say or do. The server is a script here; the scenarios have the real one.

use machine::Machine;

#[path = "../machine/mod.rs"]
mod machine;
mod prepare;
mod role;
mod stand_in;

const SYSTEM: &str = "7713277685192856966";
/// `IDENTIFY_SYSTEM` of a primary on timeline 2.
const PRIMARY: &str = "7713277685192856966|2|0/5000140|";
/// Its history: it left timeline 1 at 0/5000060.
const HISTORY: &str = "00000002.history|1\t0/5000060\tno recovery target specified\n\n";

const ROLE: &str = "answers/postgresql-primary@15-main.service.ActiveState";

/// What is other than in a machine of its own.
type Change = fn(&Machine);
