//! Lets the program find its libraries beside itself: `wsi` with `lib/` next to it runs from any folder.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/lib:$ORIGIN/../lib");
}
