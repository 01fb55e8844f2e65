//! Makes the simulator's own `getrandom` the one that is found by name at run time, as the crate of that name does.

fn main() {
    println!("cargo:rustc-link-arg=-Wl,--export-dynamic");
    println!("cargo:rerun-if-changed=build.rs");
}
