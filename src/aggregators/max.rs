//! Max pooling: the maximum over tiles of hidden units, of instance logits, or of one tile's probability.
//!
//! Of hidden units h = ReLU(W x), or of the features themselves, coordinate by coordinate: methods §4.1's form for any objective. Of
//! instance logits, class by class: ACMIL's `MaxMIL`. Of probability: CLAM's `MIL_fc`, whose one chosen tile stands for the bag.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::released::ReleasedNames;
use super::{Aggregator, Pooled};
use crate::ground::linear::Linear;

/// Settings of max pooling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MaxSettings {
    /// Whether a first layer reduces the features to `width`.
    pub embed: bool,
    /// Width of the hidden layer; E, unless the maximum is of logits.
    pub width: i64,
    /// What the maximum is of.
    pub of: Of,
}

impl Default for MaxSettings {
    fn default() -> Self {
        Self { embed: true, width: 128, of: Of::Embeddings }
    }
}

/// What the maximum is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    /// Hidden units: z `[E]`, each coordinate of the tile where it is largest.
    Embeddings,
    /// Logits of a classifier of tiles: z `[C]`, each class of the tile where it is largest.
    Logits,
    /// Probability by a classifier of tiles: z `[E]` is the hidden layer of the one tile where it is largest.
    Instance,
}

impl MaxSettings {
    /// Builds it for features of width `features` (D) and `classes` (C).
    pub fn build(&self, path: &nn::Path, features: i64, classes: i64) -> Max {
        let hidden = if self.embed { self.width } else { features };
        Max {
            embed: self.embed.then(|| Linear::new(&(path / "embed"), features, hidden, true)),
            classifier: (self.of != Of::Embeddings).then(|| Linear::new(&(path / "classifier"), hidden, classes, true)),
            of: self.of,
            width: if self.of == Of::Logits { classes } else { hidden },
        }
    }
}

/// Share of the instance classifier's own cross-entropy in what is minimised with `of = "instance"`; the objective has the rest.
///
/// METHOD: no gradient passes through the choice of a tile, so the classifier that chooses learns from its own term. Halves keep the
/// gradient of the hidden layer at the size that it has in the original, where the classifier's cross-entropy is the objective.
pub const INSTANCE_WEIGHT: f64 = 0.5;

/// Max pooling.
pub struct Max {
    embed: Option<Linear>,
    classifier: Option<Linear>,
    of: Of,
    width: i64,
}

impl Max {
    /// Logits `[…,C]` of tiles by their hidden layer `[…,E]`.
    ///
    /// # Panics
    /// Where the maximum is of hidden units: there is no classifier of tiles.
    pub fn classify(&self, hidden: &Tensor) -> Tensor {
        self.classifier.as_ref().expect("a maximum of hidden units has no classifier of tiles").forward(hidden)
    }

    /// The tile that stands for each bag: its hidden layer `[B,E]` and where it is, `[B,1,N]`, 1 there and 0 elsewhere.
    ///
    /// METHOD: as CLAM, of two classes only the second's probability counts (the positive tile); of more, any class's.
    fn strongest(&self, hidden: &Tensor, mask: &Tensor) -> (Tensor, Tensor) {
        let probabilities = self.classify(hidden).softmax(-1, None::<Kind>); // [B,N,C]
        let strength = if probabilities.size()[2] == 2 { probabilities.select(-1, 1) } else { probabilities.amax(-1, false) };
        let place = strength.masked_fill(&mask.logical_not(), f64::NEG_INFINITY).argmax(1, true); // [B,1]
        let chosen = strength.zeros_like().detach().scatter_value(1, &place, 1.0).unsqueeze(1); // [B,1,N]
        let index = place.unsqueeze(-1).expand([-1, -1, hidden.size()[2]], false); // [B,1,E]
        (hidden.gather(1, &index, false).squeeze_dim(1), chosen)
    }
}

impl Aggregator for Max {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, _train: bool, targets: Option<&Tensor>) -> Pooled {
        let hidden = self.embed.as_ref().map_or_else(|| bags.shallow_clone(), |embed| embed.forward(bags).relu()); // [B,N,E]
        let largest = |of: &Tensor| of.masked_fill(&mask.logical_not().unsqueeze(-1), f64::NEG_INFINITY).amax(1, false);
        match self.of {
            Of::Embeddings => Pooled { embedding: largest(&hidden), attention: None, scores: None, terms: Vec::new() },
            Of::Logits => Pooled { embedding: largest(&self.classify(&hidden)), attention: None, scores: None, terms: Vec::new() },
            Of::Instance => {
                let (embedding, chosen) = self.strongest(&hidden, mask);
                let own = |targets| ("instance", self.classify(&embedding).cross_entropy_for_logits(targets) * INSTANCE_WEIGHT);
                Pooled { terms: targets.map(own).into_iter().collect(), embedding, attention: Some(chosen), scores: None }
            }
        }
    }

    fn width(&self) -> i64 {
        self.width
    }

    fn objective_weight(&self) -> f64 {
        if self.of == Of::Instance { 1.0 - INSTANCE_WEIGHT } else { 1.0 }
    }
}

/// Names of the released implementations, by what the maximum is of.
pub const RELEASED: [ReleasedNames; 3] = [
    ReleasedNames { source: "a linear layer on pooled features", pairs: &[("fc", "head")], unused: &[] },
    ReleasedNames { source: "dazhangyu123/ACMIL MaxMIL", pairs: &[("head.0", "embed"), ("head.3", "classifier")], unused: &[] },
    ReleasedNames {
        source: "mahmoodlab/CLAM MIL_fc, MIL_fc_mc",
        pairs: &[("fc.0", "embed"), ("classifier", "classifier"), ("classifiers", "classifier")],
        unused: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregators::mean::MeanSettings;
    use tch::{Device, nn::VarStore};

    #[test]
    fn golden_mean_and_maximum() {
        let store = VarStore::new(Device::Cpu);
        let bag = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 2.0, 3.0, 1.0]).view([1, 3, 2]);
        let all = Tensor::ones([1, 3], (Kind::Bool, Device::Cpu));
        let max = MaxSettings { embed: false, ..Default::default() }.build(&store.root(), 2, 2).pool(&bag, &all, false, None);
        let mean = MeanSettings { embed: false, ..Default::default() }.build(&store.root(), 2).pool(&bag, &all, false, None);
        assert_eq!(Vec::<f32>::try_from(max.embedding.flatten(0, -1)).expect("values"), [3.0, 2.0]);
        assert_eq!(Vec::<f32>::try_from(mean.embedding.flatten(0, -1)).expect("values"), [4.0 / 3.0, 1.0]);
    }

    /// Worked by hand: the classifier's logits are the features, so that tile 0 is the surest of any class and tile 1 of the second.
    #[test]
    fn two_classes_choose_by_the_second_and_more_by_any() {
        let chosen = |classes: i64| {
            let store = VarStore::new(Device::Cpu);
            let settings = MaxSettings { embed: false, of: Of::Instance, ..Default::default() };
            let max = settings.build(&store.root(), classes, classes);
            tch::no_grad(|| {
                let classifier = max.classifier.as_ref().expect("it chooses by a classifier");
                classifier.weight.shallow_clone().copy_(&Tensor::eye(classes, (Kind::Float, Device::Cpu)));
                let _ = classifier.bias.as_ref().expect("it has a bias").shallow_clone().zero_();
            });
            let bag = Tensor::zeros([1, 3, classes], (Kind::Float, Device::Cpu));
            let _ = bag.get(0).get(0).narrow(0, 0, 1).fill_(5.0);
            let _ = bag.get(0).get(1).narrow(0, 1, 1).fill_(2.0);
            let all = Tensor::ones([1, 3], (Kind::Bool, Device::Cpu));
            max.pool(&bag, &all, false, None).attention.expect("the chosen tile").argmax(-1, false).int64_value(&[0, 0])
        };
        assert_eq!([chosen(2), chosen(3)], [1, 0]);
    }
}
