//! Another libtorch than the one beside the program, such as one with CUDA: `WSI_LIBTORCH` names its folder.
//!
//! The program's own `lib/` goes before `LD_LIBRARY_PATH` (`build.rs`), so that no other library of the same name gets in between, and
//! before the named folder too. What is already loaded is not looked for: the program starts itself again with those libraries first.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

/// The folder `torch` of an installed PyTorch, the folder around it, or an unpacked libtorch.
const VARIABLE: &str = "WSI_LIBTORCH";
/// The release that the bindings are made for; its functions are looked up by their C++ names, which change from one to the next.
const VERSION: &str = "2.11.0";
/// Those of libtorch that the program is linked to.
const LINKED: [&str; 2] = ["libc10.so", PROCESSORS];
/// The half that every build has.
const PROCESSORS: &str = "libtorch_cpu.so";
/// The other half, of a CUDA build.
const GPUS: &str = "libtorch_cuda.so";
/// What the dynamic loader loads before anything else.
const PRELOAD: &str = "LD_PRELOAD";

/// Has the process run with the libtorch of `WSI_LIBTORCH`: returns where it does, or where nothing is asked for; otherwise the same call
/// begins again in this process. To be called in `main` before any other thread.
///
/// # Errors
/// The folder holds no libtorch 2.11.0, or one that cannot be loaded.
pub fn choose() -> Result<()> {
    let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) else { return Ok(()) };
    let libraries = find(Path::new(&named)).with_context(|| format!("{VARIABLE} is '{}'", Path::new(&named).display()))?;
    let first = preloaded(&libraries);
    let asked = env::var_os(PRELOAD).unwrap_or_default();
    let others = asked.as_bytes().strip_prefix(first.as_bytes()).map(|rest| OsStr::from_bytes(rest.strip_prefix(b":").unwrap_or(rest)));
    if loaded()? == libraries.join(PROCESSORS).canonicalize()? {
        if let Some(others) = others {
            // What this program starts decides for itself; a batch system's command has no use for libtorch.
            // SAFETY: no other thread is there yet to read the environment.
            unsafe { if others.is_empty() { env::remove_var(PRELOAD) } else { env::set_var(PRELOAD, others) } }
        }
        return Ok(());
    }
    ensure!(others.is_none(), "the libraries in '{}' could not be loaded; the lines above say why", libraries.display());
    let program = env::current_exe().context("cannot tell where this program is")?;
    let preload = if asked.is_empty() { first } else { [first, asked].join(OsStr::new(":")) };
    let mut call = env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = call.next() {
        again.arg0(name);
    }
    Err(again.args(call).env(PRELOAD, preload).exec()).context("cannot start the program again with another libtorch")
}

/// Loads the half that computes on GPUs from beside the half that the program was linked to, if it is there. Once it is in the process,
/// libtorch finds it by itself; search paths are not asked, they may lead to another release. Says whether it is there.
pub fn load_cuda() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        let Some(path) = loaded().ok().map(|path| path.with_file_name(GPUS)).filter(|path| path.exists()) else { return false };
        // SAFETY: the library only registers its kernels when it is loaded; no symbol of it is used from here.
        match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => std::mem::forget(library),
            Err(error) => {
                tracing::warn!("no GPU can be used: {error}");
                return false;
            }
        }
        true
    })
}

/// The folder of the libraries, its links resolved.
fn find(named: &Path) -> Result<PathBuf> {
    let candidates = [named.to_owned(), named.join("torch")];
    let holds = |folder: &&PathBuf| LINKED.iter().all(|library| folder.join("lib").join(library).is_file());
    let Some(folder) = candidates.iter().find(holds) else {
        bail!("no lib/libtorch_cpu.so there; name the folder 'torch' of an installed PyTorch {VERSION}, or an unpacked libtorch {VERSION}");
    };
    let version = version(folder).with_context(|| format!("no version.py or build-version beside lib/; is it PyTorch {VERSION}?"))?;
    // What follows a plus sign is the build: cu130, cpu.
    let release = version.split('+').next().unwrap_or_default();
    ensure!(release == VERSION, "it is libtorch {version}, and this program needs {VERSION}, any build of it");
    let libraries = folder.join("lib").canonicalize()?;
    let separates = |byte: &u8| [b' ', b':'].contains(byte);
    ensure!(
        !libraries.as_os_str().as_bytes().iter().any(separates),
        "'{}' has a space or a colon in it, which the dynamic loader takes for the end of a name; move or copy that folder",
        libraries.display()
    );
    Ok(libraries)
}

/// As PyTorch (`version.py`) and libtorch (`build-version`) say it: `2.11.0+cu130`.
fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    let quoted = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(quoted.trim_matches(['\'', '"']).to_owned())
}

/// The list that the dynamic loader takes before the program's own libraries.
fn preloaded(libraries: &Path) -> OsString {
    LINKED.map(|library| libraries.join(library).into_os_string()).join(OsStr::new(":"))
}

/// The libtorch that this process runs with.
fn loaded() -> Result<PathBuf> {
    let maps = fs::read("/proc/self/maps").context("cannot read which libraries are loaded")?;
    mapped(PROCESSORS, &maps).context("cannot tell where libtorch is")
}

/// The file of a library, in what `/proc/self/maps` says: a line a mapping, its path, which may have spaces, at the end. A file's own
/// name may have a release after the library's.
fn mapped(library: &str, maps: &[u8]) -> Option<PathBuf> {
    let path = |line: &[u8]| Some(PathBuf::from(OsStr::from_bytes(&line[line.iter().position(|byte| *byte == b'/')?..])));
    let is_it = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(library.as_bytes()));
    maps.split(|byte| *byte == b'\n').filter_map(path).find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like an installed PyTorch.
    fn torch(version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("torch/lib")).unwrap();
        for library in LINKED {
            fs::write(folder.path().join("torch/lib").join(library), "").unwrap();
        }
        fs::write(folder.path().join("torch/version.py"), format!("debug = False\n__version__ = '{version}'\n")).unwrap();
        folder
    }

    #[test]
    fn any_build_of_the_release_is_found_from_its_folder_or_the_one_around_it() {
        let site = torch("2.11.0+cu130");
        let libraries = site.path().join("torch/lib").canonicalize().unwrap();
        assert_eq!(find(site.path()).unwrap(), libraries);
        assert_eq!(find(&site.path().join("torch")).unwrap(), libraries);
        assert_ne!(loaded().unwrap(), libraries.join(PROCESSORS));
    }

    #[test]
    fn a_loaded_library_is_found_by_its_name_with_spaces_and_releases() {
        let maps = b"7f00-7f01 r-xp 00000000 00:00 0 [vdso]\n7f02-7f03 r--p 00000000 fe:00 34    /opt/my torch/lib/libtorch_cpu.so.2\n";
        assert_eq!(mapped(PROCESSORS, maps).unwrap(), Path::new("/opt/my torch/lib/libtorch_cpu.so.2"));
        assert_eq!(mapped("libc10.so", maps), None);
    }

    #[test]
    fn another_release_is_refused_with_both_versions() {
        let error = find(torch("2.9.1+cu128").path()).unwrap_err().to_string();
        assert!(error.contains("2.9.1+cu128") && error.contains("2.11.0"), "{error}");
        let error = find(torch("2.11.01").path()).unwrap_err().to_string();
        assert!(error.contains("2.11.01"), "{error}");
    }

    #[test]
    fn a_folder_without_libtorch_and_a_name_that_the_loader_would_cut_are_refused() {
        let empty = tempfile::tempdir().unwrap();
        let error = find(empty.path()).unwrap_err().to_string();
        assert!(error.contains("lib/libtorch_cpu.so"), "{error}");
        let site = torch("2.11.0");
        let spaced = site.path().join("my torch");
        fs::rename(site.path().join("torch"), &spaced).unwrap();
        let error = find(&spaced).unwrap_err().to_string();
        assert!(error.contains("space"), "{error}");
    }
}
