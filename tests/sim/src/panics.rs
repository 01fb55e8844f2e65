//! Panics on a thread that simulates: tokio catches those of the product's tasks, and in production the process would end.

use std::cell::{Cell, RefCell};
use std::sync::Once;

thread_local! {
    static KEPT: Cell<bool> = const { Cell::new(false) };
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From here on a panic of this thread is kept for [`take`], and not printed.
pub(crate) fn keep() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Where a panic ends the process there is nobody to take it.
            if KEPT.get() && cfg!(panic = "unwind") {
                FIRST.with_borrow_mut(|first| {
                    first.get_or_insert_with(|| panic.to_string());
                });
            } else {
                others(panic);
            }
        }));
    });
    KEPT.set(true);
}

/// The first panic since this was asked last.
pub(crate) fn take() -> Option<String> {
    FIRST.take()
}
