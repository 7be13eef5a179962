//! The model: encoder? → aggregator? → projection? → head?. Bags need the aggregator, images the encoder, bags of images both; the
//! objective says which head.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Tensor, nn, no_grad};

use crate::aggregators::{Aggregator, AggregatorSettings, Term};
use crate::encoders::{Encoder, EncoderSettings, lenet};
use crate::ground::batch::{Batch, Input, Output};
use crate::ground::linear::Linear;
use crate::losses::{Head, Terms};
use crate::torch::c10d::Gloo;

/// The encoder that is trained where none is named.
pub const DEFAULT_ENCODER: &str = "cifar-resnet18";

/// Settings of `[train.model]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelSettings {
    /// Pools bags; not used on images.
    pub aggregator: AggregatorSettings,
    /// Trained from the first pixel; not used on bags of features.
    pub encoder: EncoderSettings,
    /// A linear layer E→E after pooling.
    ///
    /// METHOD: a pooled ReLU embedding is non-negative, and NCMI's identity code then cannot separate the last direction:
    /// training stops at two classes of three. A signed embedding removes that; cross-entropy gets the same layer, so that
    /// the two are compared on the same model.
    pub projection: bool,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            aggregator: AggregatorSettings::default(),
            encoder: EncoderSettings::named(DEFAULT_ENCODER).unwrap_or_default(),
            projection: true,
        }
    }
}

/// A chain of optional links.
pub struct Model {
    encoder: Option<Box<dyn Encoder>>,
    aggregator: Option<Box<dyn Aggregator>>,
    projection: Option<Linear>,
    /// Layers with a ReLU between them; none without a head.
    head: Vec<Linear>,
    width: i64,
}

impl Model {
    /// Builds the links that the input and the objective need.
    ///
    /// # Errors
    /// Fewer than two classes, an aggregator that cannot be built, images that the encoder does not fit.
    pub fn new(settings: &ModelSettings, input: Input, head: Head, classes: i64, path: &nn::Path) -> Result<Self> {
        ensure!(classes >= 2, "at least 2 classes are needed, the labels have {classes}");
        let (encoder, aggregator) = match input {
            Input::Bags(features) => (None, Some(settings.aggregator.build(&(path / "aggregator"), features, classes)?)),
            Input::Images => {
                ensure!(
                    !matches!(settings.encoder, EncoderSettings::LeNet(_)),
                    "the encoder 'lenet' fits digits only (train.data = \"mnist-bags\"); choose another train.model.encoder.name"
                );
                (Some(settings.encoder.build(&(path / "encoder"))?), None)
            }
            Input::ImageBags => {
                settings.encoder.check(lenet::SIDE as u32)?;
                let encoder = settings.encoder.build(&(path / "encoder"))?;
                let aggregator = settings.aggregator.build(&(path / "aggregator"), encoder.width(), classes)?;
                (Some(encoder), Some(aggregator))
            }
        };
        let width = aggregator.as_ref().map(|a| a.width()).or(encoder.as_ref().map(|e| e.width())).expect("one of both is built");
        Ok(Self {
            encoder,
            // METHOD: on images the embedding is the encoder's own (paper: the classifier is replaced by the identity).
            projection: (settings.projection && aggregator.is_some()).then(|| Linear::new(&(path / "projection"), width, width, true)),
            aggregator,
            head: match head {
                Head::None => Vec::new(),
                Head::Classes => vec![Linear::new(&(path / "head"), width, classes, true)],
                Head::Contrast { width: out } => {
                    let head = path / "head";
                    vec![Linear::new(&(&head / "0"), width, width, true), Linear::new(&(&head / "1"), width, out, true)]
                }
            },
            width,
        })
    }

    /// E
    pub fn width(&self) -> i64 {
        self.width
    }

    /// Bags `[B,N,D]`, images `[B,3,H,W]` or bags of images `[B,N,3,H,W]` → embedding, head, attention.
    pub fn forward(&self, batch: &Batch, train: bool) -> Output {
        self.chain(batch, train, false).0
    }

    /// The same for a training step, with the aggregator's own terms of the objective.
    pub fn forward_step(&self, batch: &Batch) -> (Output, Vec<Term>) {
        self.chain(batch, true, true)
    }

    /// The objective, weighted as the aggregator wants it, plus the aggregator's own terms.
    pub fn total(&self, objective: Terms, own: Vec<Term>) -> Terms {
        let weight = self.aggregator.as_ref().map_or(1.0, |aggregator| aggregator.objective_weight());
        let total = own.iter().fold(objective.total * weight, |sum, (_, term)| sum + term);
        let mut parts = objective.parts;
        parts.extend(own.into_iter().map(|(name, term)| (name, term.detach())));
        Terms { total, parts }
    }

    /// Batch normalisation by the statistics of all ranks' images.
    pub fn synchronise(&mut self, ranks: &Arc<Gloo>) {
        if let Some(encoder) = &mut self.encoder {
            encoder.synchronise(ranks);
        }
    }

    /// Before a step; `passed` is the share of all epochs that is done.
    pub fn before_step(&mut self, passed: f64) {
        if let Some(aggregator) = &mut self.aggregator {
            aggregator.before_step(passed);
        }
    }

    /// After the optimiser's step: moves what follows the parameters.
    pub fn after_step(&mut self) {
        if let Some(aggregator) = &mut self.aggregator {
            no_grad(|| aggregator.after_step());
        }
    }

    fn chain(&self, batch: &Batch, train: bool, with_terms: bool) -> (Output, Vec<Term>) {
        let (mut embedding, attention, terms) = match (&self.aggregator, &self.encoder) {
            (Some(aggregator), encoder) => {
                let mask = batch.mask.as_ref().expect("a batch of bags has a mask");
                let embedded = encoder.as_ref().map(|encoder| embed_bags(encoder.as_ref(), &batch.inputs, mask, train));
                let bags = embedded.as_ref().unwrap_or(&batch.inputs);
                let pooled = aggregator.pool(bags, mask, train, with_terms.then_some(&batch.targets));
                (pooled.embedding, pooled.attention, pooled.terms)
            }
            (None, Some(encoder)) => (encoder.embed(&batch.inputs, train), None, Vec::new()),
            (None, None) => unreachable!("a model has an aggregator or an encoder"),
        };
        if let Some(projection) = &self.projection {
            embedding = projection.forward(&embedding);
        }
        let mut layers = self.head.iter();
        let first = layers.next().map(|layer| layer.forward(&embedding));
        let head = layers.fold(first, |below, layer| below.map(|below| layer.forward(&below.relu())));
        (Output { embedding, head, attention }, terms)
    }
}

/// Bags of images `[B,N,3,H,W]` → bags of vectors `[B,N,E]`, 0 on padding. The encoder sees all images as one batch and no padding, so
/// that its batch statistics are those of images.
fn embed_bags(encoder: &dyn Encoder, bags: &Tensor, mask: &Tensor, train: bool) -> Tensor {
    let real = mask.flatten(0, -1).nonzero().squeeze_dim(1);
    let vectors = encoder.embed(&bags.flatten(0, 1).index_select(0, &real), train); // [n,E]
    let all = Tensor::zeros([mask.numel() as i64, encoder.width()], (vectors.kind(), vectors.device()));
    all.index_copy(0, &real, &vectors).view([bags.size()[0], bags.size()[1], encoder.width()])
}

#[cfg(test)]
mod tests {
    use tch::Device;
    use tch::nn::VarStore;

    use super::*;
    use crate::encoders::vit::VitSettings;

    #[test]
    fn an_encoder_that_does_not_fit_is_refused() {
        let refusal = |vit: VitSettings, input: Input| {
            let settings = ModelSettings { encoder: EncoderSettings::Vit(vit), ..ModelSettings::default() };
            Model::new(&settings, input, Head::Classes, 3, &VarStore::new(Device::Cpu).root()).err().map(|error| error.to_string())
        };
        let small = VitSettings { embed_dim: 12, depth: 1, heads: 2, patch_px: 7, image_px: 28, ..VitSettings::default() };
        assert_eq!(refusal(small.clone(), Input::ImageBags), None);
        let says = refusal(VitSettings { image_px: 224, ..small.clone() }, Input::ImageBags).unwrap();
        assert!(says.contains("takes images of 224 px, not of 28 px"), "{says}");
        let says = refusal(VitSettings { heads: 5, ..small }, Input::Images).unwrap();
        assert!(says.contains("5 heads cannot share"), "{says}");
    }
}
