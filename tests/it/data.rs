//! Where test data is: `WSI_TEST_DATA` and `WSI_PARITY`, else beside the checkout, else the test says that it was skipped.

use std::path::PathBuf;

/// The test data folder, or `None` after saying so.
pub fn test_data(test: &str) -> Option<PathBuf> {
    find("WSI_TEST_DATA", "../shared/data", test)
}

/// The golden vectors' folder, or `None` after saying so.
pub fn parity(test: &str) -> Option<PathBuf> {
    find("WSI_PARITY", "../shared/parity", test)
}

fn find(variable: &str, beside: &str, test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(beside), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("{test}: skipped: no test data");
    None
}
