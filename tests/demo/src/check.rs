//! The account at the end: every row that the client was told is committed is there, once, and the files are whole.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use lab::Node;

use crate::timeline::Timeline;

/// Compares the table on `node` with what was acknowledged.
pub(crate) fn ledger(t: &Timeline, node: &Node, acked: &BTreeMap<i64, u64>) -> Result<()> {
    let psql = "runuser -u postgres -- psql --no-align --tuples-only --quiet --dbname=ledger";
    // The table itself is read, not its index: two servers on one table would show here.
    let text = node.feed(
        psql,
        b"SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;\nSELECT n FROM ledger;\n",
    )?;
    ensure!(text.ok(), "cannot read the ledger: {}", text.stderr);
    let mut there: BTreeSet<i64> = BTreeSet::new();
    let mut doubled = Vec::new();
    for line in text.stdout.lines() {
        let n = line.trim().parse()?;
        if !there.insert(n) {
            doubled.push(n);
        }
    }
    let missing: Vec<i64> = acked.keys().filter(|n| !there.contains(n)).copied().collect();
    ensure!(doubled.is_empty(), "{} rows are there twice: {:?}", doubled.len(), first(&doubled));
    ensure!(missing.is_empty(), "{} acknowledged rows are missing: {:?}", missing.len(), first(&missing));
    // One more may have been committed whose answer the client did not wait for.
    let extra = there.len() - acked.len();
    ensure!(extra <= 1, "{extra} rows are there that nobody wrote");
    t.say("ledger", &format!("{} rows acknowledged, all there, each once", acked.len()));
    node.run_ok("runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_amcheck --install-missing --heapallindexed --database=ledger")?;
    t.say("", "pg_amcheck: tables and indexes agree");
    Ok(())
}

fn first(numbers: &[i64]) -> &[i64] {
    numbers.get(..numbers.len().min(10)).unwrap_or(numbers)
}
