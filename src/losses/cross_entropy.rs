//! Cross-entropy: −log p_y of the soft-max of the logits, the baseline of every table.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Loss, Site, Terms};
use crate::ground::batch::Output;

/// No settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CrossEntropySettings {}

impl CrossEntropySettings {
    pub(super) fn build(&self, _site: &Site) -> Result<Box<dyn Loss>> {
        Ok(Box::new(CrossEntropy))
    }
}

struct CrossEntropy;

impl Loss for CrossEntropy {
    fn forward(&mut self, output: &Output, targets: &Tensor) -> Terms {
        Terms { total: self.log_distribution(output).g_nll_loss::<&Tensor>(targets, None, tch::Reduction::Mean, -100), parts: Vec::new() }
    }

    fn log_distribution(&self, output: &Output) -> Tensor {
        logits(output).log_softmax(-1, None::<Kind>)
    }

    fn probabilities(&self, output: &Output) -> Tensor {
        self.log_distribution(output).exp()
    }
}

fn logits(output: &Output) -> &Tensor {
    output.logits.as_ref().expect("a model trained for cross-entropy is built with a head")
}
