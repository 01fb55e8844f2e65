//! Many machines lose their power at one moment.

/// Ten power strips of ten outlets, of which each switches two at a time. One strip after another, or one outlet at a time,
/// would take several times as long.
#[test]
fn a_hundred_machines_are_fenced_side_by_side_and_each_once() {
    let at_once = 2;
    let loss = sim::lose(1, 100, 10, at_once);
    assert_eq!(loss.broken, None);
    assert_eq!(loss.most_at_once.len(), 10);
    assert!(loss.most_at_once.values().all(|most| *most == at_once as usize), "{:?}", loss.most_at_once);
    assert!(loss.attempts.iter().all(|attempts| *attempts == 1), "{:?}", loss.attempts);
    assert!(loss.recovered_ms < 15_000, "{loss:?}");
}
