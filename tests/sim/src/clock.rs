//! The clocks and the chance of a simulated machine, for code that asks the C library for the real ones.
//!
//! `std::time`, rustix (built for libc here) and every source of random numbers in this process end in `clock_gettime` and
//! `getrandom`. This program has its own of both: on a thread that simulates they answer from the simulation, on any other
//! they ask the kernel. So the product reads its clocks as it does in production, without a seam, and a seed decides all.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

use crate::rng::Rng;

/// 2026-01-01, for whoever wants a date.
const EPOCH_S: u64 = 1_767_225_600;

thread_local! {
    static WORLD: Cell<Option<Duration>> = const { Cell::new(None) };
    static MACHINE: Cell<Option<(tokio::time::Instant, Duration, Duration)>> = const { Cell::new(None) };
    static CHANCE: RefCell<Option<Rng>> = const { RefCell::new(None) };
}

/// From here on this thread simulates; it is at time zero of the world.
pub(crate) fn begin(seed: u64) {
    WORLD.set(Some(Duration::ZERO));
    CHANCE.set(Some(Rng::new(seed)));
}

/// The world's time, in milliseconds, at which a wall clock showed this.
pub(crate) fn of_wall(ms: u64) -> u64 {
    ms.saturating_sub(EPOCH_S * 1_000)
}

/// The world's time moves on.
pub(crate) fn set_world(now: Duration) {
    WORLD.set(Some(now));
}

/// Runs `body` when the monotonic clock shows `mono`: a runtime that is built in it takes its origin from there, so that
/// its own clock and the machine's never differ.
pub(crate) fn at<T>(mono: Duration, body: impl FnOnce() -> T) -> T {
    let world = WORLD.replace(Some(mono));
    let result = body();
    WORLD.set(world);
    result
}

/// Runs `body` as a process of a machine. Its tokio clock showed `origin` when its monotonic clock showed `mono`; time in
/// suspend, which only CLOCK_BOOTTIME counts, is `slept`.
pub(crate) fn on_machine<T>(
    origin: tokio::time::Instant,
    mono: Duration,
    slept: Duration,
    body: impl FnOnce() -> T,
) -> T {
    MACHINE.set(Some((origin, mono, slept)));
    let result = body();
    MACHINE.set(None);
    result
}

fn simulated(clock: clockid_t) -> Option<Duration> {
    let world = WORLD.try_with(Cell::get).ok()??;
    // Taken away while tokio is asked, which outside of a runtime asks here again.
    let machine = MACHINE.replace(None);
    let own = machine.map(|(origin, mono, slept)| (tokio::time::Instant::now() - origin + mono, slept));
    MACHINE.set(machine);
    let mono = own.map_or(world, |(mono, _)| mono);
    Some(match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => world + Duration::from_secs(EPOCH_S),
        libc::CLOCK_BOOTTIME => mono + own.map_or(Duration::ZERO, |(_, slept)| slept),
        _ => mono,
    })
}

/// The time of a real processor that this thread has taken: what the simulated machines cost, and nothing that any of them sees.
#[allow(unsafe_code, reason = "the C library's function is this program's own")]
pub(crate) fn processor() -> Duration {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a place that lives until it is done.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// # Safety
/// As the C library's.
#[allow(unsafe_code, reason = "it takes the place of a function of the C library")]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    match simulated(clock) {
        Some(now) => {
            // SAFETY: whoever calls this hands over a place for the answer.
            unsafe {
                (*time).tv_sec = now.as_secs() as libc::time_t;
                (*time).tv_nsec = c_long::from(now.subsec_nanos());
            }
            0
        }
        // SAFETY: the kernel's own, with the caller's arguments.
        None => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int },
    }
}

/// # Safety
/// As the C library's.
#[allow(unsafe_code, reason = "it takes the place of a function of the C library")]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    let drawn = CHANCE.try_with(|chance| {
        let mut chance = chance.borrow_mut();
        let chance = chance.as_mut()?;
        // SAFETY: whoever calls this hands over that much room, or asks for nothing.
        let bytes = match length {
            0 => &mut [][..],
            _ => unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) },
        };
        bytes.fill_with(|| chance.below(256) as u8);
        Some(length as ssize_t)
    });
    match drawn.ok().flatten() {
        Some(drawn) => drawn,
        // SAFETY: the kernel's own, with the caller's arguments.
        None => unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as ssize_t },
    }
}
