//! Compiles the C++ side of `src/torch`, packs OpenSeadragon for the viewer, and lets the program find its libraries beside itself: `wsi` with `lib/` next to it runs
//! from any folder.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

const TORCH: &str = "src/torch";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The old kind of search path, DT_RPATH, goes before LD_LIBRARY_PATH: no module of a cluster puts another library in between.
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/lib,--disable-new-dtags");

    println!("cargo:rerun-if-changed={TORCH}");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    let mut sources: Vec<PathBuf> = std::fs::read_dir(TORCH).expect("src/torch is there").map(|entry| entry.unwrap().path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cpp"));
    sources.sort();
    let headers = libtorch_headers();
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", "1") // as libtorch's own wheels since 2.6
        .opt_level(2)
        .debug(false)
        .flag_if_supported("-Wno-maybe-uninitialized") // false alarms in libtorch's own headers
        .flag("-isystem")
        .flag(headers.to_str().expect("a path in UTF-8"))
        .flag("-isystem")
        .flag(headers.join("torch/csrc/api/include").to_str().expect("a path in UTF-8"))
        .flag("-idirafter") // after libtorch's own, which may have Gloo's headers
        .flag(format!("{TORCH}/standins"))
        .files(sources)
        .compile("wsi_torch");
    pack_openseadragon();
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
}

/// Where torch-sys found the headers: beside the libraries, unless `LIBTORCH_INCLUDE` names another libtorch.
fn libtorch_headers() -> PathBuf {
    let libraries = env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is");
    let root = env::var_os("LIBTORCH_INCLUDE").map_or_else(|| Path::new(&libraries).join(".."), PathBuf::from);
    root.join("include")
}

/// The viewer's only foreign script goes into the program, so that nothing is fetched at run time.
fn pack_openseadragon() {
    println!("cargo:rerun-if-env-changed=OPENSEADRAGON");
    let folder = env::var_os("OPENSEADRAGON").expect("OPENSEADRAGON names the folder with openseadragon.js; `./run setup` fetches it");
    let source = Path::new(&folder).join("openseadragon.js");
    println!("cargo:rerun-if-changed={}", source.display());
    let script = std::fs::read(&source).unwrap_or_else(|error| panic!("'{}': {error}; run `./run setup`", source.display()));
    let packed = Path::new(&env::var_os("OUT_DIR").expect("cargo says where to")).join("openseadragon.js.gz");
    let mut packing = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packing.write_all(&script).expect("memory takes it");
    std::fs::write(packed, packing.finish().expect("memory takes it")).expect("the build folder can be written");
}
