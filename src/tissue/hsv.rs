//! Tissue by saturation.

use serde::{Deserialize, Serialize};

/// Settings of the saturation mask.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HsvSettings {}
