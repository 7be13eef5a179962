//! Keyed names for slides and patients: without the salt file nobody can tell or guess whose they are; with it, the same id has the
//! same name in every call.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A key this short could be guessed.
const SHORTEST: usize = 16;

/// The secret behind a cohort's pseudonyms.
pub struct Salt(Vec<u8>);

impl Salt {
    /// Reads the secret: every byte of the file.
    ///
    /// # Errors
    /// A file that cannot be read or is shorter than 16 bytes.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read the salt file '{name}'"))?;
        ensure!(
            bytes.len() >= SHORTEST,
            "the salt file '{name}' has {} bytes, it wants {SHORTEST} or more; make one with: head -c 32 /dev/urandom > {name}",
            bytes.len()
        );
        Ok(Self(bytes))
    }

    /// The pseudonym of an id: 16 hexadecimal digits of HMAC-SHA256.
    pub fn pseudonym(&self, id: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(id.as_bytes());
        mac.finalize().into_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_follows_from_salt_and_id_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("salt");
        std::fs::write(&path, "0123456789abcdef").unwrap();
        let salt = Salt::read(&path).unwrap();
        // printf patient_004 | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(salt.pseudonym("patient_004"), "5471ab9c1deb8509");
        std::fs::write(&path, "short").unwrap();
        assert!(Salt::read(&path).err().unwrap().to_string().contains("has 5 bytes"));
    }
}
