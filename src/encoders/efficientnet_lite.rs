//! EfficientNet-Lite0.

use serde::{Deserialize, Serialize};

/// Settings of EfficientNet-Lite0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EfficientNetLite0Settings {}
