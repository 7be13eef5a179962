//! What all cases of this family share: loading the reference's parameters under our names, bags, common tensors, gradients.

use std::collections::HashMap;

use tch::nn::{Path, VarStore};
use tch::{Device, Kind, Tensor, no_grad};
use wsi::aggregators::released::ReleasedNames;
use wsi::aggregators::{Aggregator, Pooled};
use wsi::ground::linear::Linear;

use super::super::case::{Case, Limit};

/// A case's model with the reference's parameters.
pub struct Golden<'c> {
    /// The case.
    pub case: &'c Case,
    /// The classifier of the embedding, where the reference has one beside the aggregator.
    head: Option<Linear>,
    store: VarStore,
    names: &'static ReleasedNames,
    limit: Limit,
}

/// One bag of a case.
pub struct Bag<'g> {
    golden: &'g Golden<'g>,
    prefix: String,
    /// N
    pub tiles: i64,
    /// Class index.
    pub label: i64,
    /// `[1,N,D]`, with gradient.
    pub input: Tensor,
    /// `[1,N]`
    pub mask: Tensor,
    /// `[1]`
    pub targets: Tensor,
}

/// Whether a stored norm is that of a wrong gradient: PyTorch's for TransMIL's filter over a padded sequence of exactly 256 rows, on a
/// CPU. A test beside `nystrom.rs` holds that gradient to its definition instead.
fn is_wrong_in_the_reference(case: &Case, bag: &str, parameter: &str) -> bool {
    let tiles = bag.trim_start_matches('n').parse::<i64>().ok();
    let (Some(landmarks), Some(tiles)) = (case.hyper()["landmarks"].as_i64(), tiles) else { return false };
    let side = (tiles as f64).sqrt().ceil() as i64;
    let rows = (side * side + 1 + landmarks - 1) / landmarks * landmarks;
    rows == 256 && parameter.ends_with(".res_conv.weight")
}

/// Whether the reference has a parameter of this name.
pub fn has(case: &Case, name: &str) -> bool {
    case.state().iter().any(|(found, _)| found == name)
}

/// First side of a parameter of the reference.
pub fn rows(case: &Case, name: &str) -> i64 {
    case.state().iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("{}: no '{name}'", case.name)).1.size()[0]
}

/// A whole number among the hyper-parameters.
pub fn whole(case: &Case, name: &str) -> i64 {
    case.hyper()[name].as_i64().unwrap_or_else(|| panic!("{}: hyper-parameter '{name}'", case.name))
}

impl<'c> Golden<'c> {
    /// Builds the aggregator for the case's width D and loads every parameter; one without a place, or left unset, is a problem.
    pub fn new<A: Aggregator>(case: &'c Case, names: &'static ReleasedNames, build: impl FnOnce(&Path, i64) -> A) -> (Self, A) {
        let (mut golden, model) = Self::unloaded(case, names, build);
        let first = case.spec["stats"].as_object().unwrap().keys().next().unwrap();
        let outputs = case.spec["tensors"][format!("{first}.logits")]["shape"][1].as_i64().unwrap();
        golden.head = Some(Linear::new(&(golden.store.root() / "head"), model.width(), outputs, true));
        golden.load();
        (golden, model)
    }

    /// The same for a reference whose classifier is the aggregator's.
    pub fn headless<A: Aggregator>(case: &'c Case, names: &'static ReleasedNames, build: impl FnOnce(&Path, i64) -> A) -> (Self, A) {
        let (golden, model) = Self::unloaded(case, names, build);
        golden.load();
        (golden, model)
    }

    fn unloaded<A: Aggregator>(case: &'c Case, names: &'static ReleasedNames, build: impl FnOnce(&Path, i64) -> A) -> (Self, A) {
        let features = case.spec["inputs"][0]["shape"][1].as_i64().unwrap();
        let store = VarStore::new(Device::Cpu);
        let model = build(&store.root(), features);
        let limit = Limit::RelativeMax(case.tolerance("/rel_max").unwrap());
        (Self { case, head: None, store, names, limit }, model)
    }

    /// The classifier of the embedding.
    pub fn head(&self) -> &Linear {
        self.head.as_ref().unwrap_or_else(|| panic!("{}: built without a head", self.case.name))
    }

    fn load(&self) {
        let mut unset = self.store.variables();
        if let Some(head) = &self.head {
            let _ = no_grad(|| head.weight.shallow_clone().zero_());
        }
        for (name, tensor) in self.case.state() {
            let Some((ours, mut place)) = self.place(&name, &self.store.variables(), |variable| variable.shallow_clone()) else {
                if !self.names.is_unused(&name) {
                    self.case.problem(format!("'{name}' has no place in our model"));
                }
                continue;
            };
            if place.numel() == tensor.numel() {
                no_grad(|| place.copy_(&tensor.view_as(&place)));
            } else {
                self.case.problem(format!("'{name}' {:?} does not fit '{ours}' {:?}", tensor.size(), place.size()));
            }
            unset.remove(&ours);
        }
        for name in unset.keys() {
            self.case.problem(format!("'{name}' was not set"));
        }
    }

    /// Our variable of the reference's parameter `name`, or the part of the head that it is; `what` chooses value or gradient.
    fn place(&self, name: &str, variables: &HashMap<String, Tensor>, what: impl Fn(&Tensor) -> Tensor) -> Option<(String, Tensor)> {
        let ours = self.names.ours(name)?;
        let block = ours.strip_prefix("head.").and_then(|rest| {
            let (number, part) = rest.split_once('.')?;
            Some((number.parse::<i64>().ok()?, part))
        });
        let Some((branch, part)) = block else {
            return variables.get(&ours).map(|variable| (ours.clone(), what(variable)));
        };
        let whole = what(&variables[&format!("head.{part}")]);
        let row = whole.narrow(0, branch, 1);
        let branches = self.head().weight.size()[0];
        let width = self.head().weight.size()[1] / branches;
        Some((format!("head.{part}"), if part == "weight" { row.narrow(1, branch * width, width) } else { row }))
    }

    /// The case's bags.
    pub fn bags(&self) -> Vec<Bag<'_>> {
        let bags = self.case.spec["stats"].as_object().unwrap();
        bags.iter()
            .map(|(prefix, bag)| {
                let (tiles, label) = (bag["N"].as_i64().unwrap(), bag["label"].as_i64().unwrap());
                Bag {
                    golden: self,
                    prefix: prefix.clone(),
                    tiles,
                    label,
                    input: self.case.input_rows("input", tiles).unsqueeze(0).set_requires_grad(true),
                    mask: Tensor::ones([1, tiles], (Kind::Bool, Device::Cpu)),
                    targets: Tensor::from_slice(&[label]),
                }
            })
            .collect()
    }
}

impl Bag<'_> {
    /// Name of a stored tensor of this bag.
    pub fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Whether the reference stored this.
    pub fn has(&self, name: &str) -> bool {
        self.golden.case.has(&self.name(name))
    }

    /// Compares, where the reference stored this; integers exactly.
    pub fn compare(&self, name: &str, ours: &Tensor) {
        if self.has(name) {
            let limit = if ours.kind() == Kind::Int64 { Limit::Exact } else { self.golden.limit };
            self.golden.case.compare(&self.name(name), ours, limit);
        }
    }

    /// Logits of an embedding, compared with what every case has: logits, their soft-max, attention, bag.
    pub fn logits(&self, pooled: &Pooled) -> Tensor {
        let logits = self.golden.head().forward(&pooled.embedding);
        self.compare_logits(&logits);
        if let Some(attention) = &pooled.attention {
            self.compare("attention", &attention.squeeze_dim(0));
        }
        if let Some(scores) = &pooled.scores {
            self.compare("attention_raw", &scores.squeeze_dim(0));
        }
        logits
    }

    /// Compares logits and their soft-max.
    pub fn compare_logits(&self, logits: &Tensor) {
        self.compare("logits", logits);
        if logits.size()[1] > 1 {
            self.compare("prob", &logits.softmax(-1, None::<Kind>));
        }
    }

    /// The value of a term, without gradient.
    pub fn term(&self, pooled: &Pooled, name: &str) -> Tensor {
        pooled.terms.iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no term '{name}'")).1.detach()
    }

    /// Cross-entropy of the bag's label.
    pub fn cross_entropy(&self, logits: &Tensor) -> Tensor {
        logits.cross_entropy_for_logits(&self.targets)
    }

    /// Compares the loss and all gradients of it.
    pub fn finish(&self, logits: &Tensor, loss: &Tensor) {
        self.compare("loss", loss);
        let first = |gradient: &Tensor| gradient.squeeze_dim(0).narrow(0, 0, self.tiles.min(5));
        self.compare("grad_input_first5", &first(&Tensor::run_backward(&[logits.sum(None::<Kind>)], &[&self.input], true, false)[0]));
        let variables = self.golden.store.variables();
        for variable in variables.values() {
            variable.shallow_clone().zero_grad();
        }
        self.input.shallow_clone().zero_grad();
        loss.backward();
        self.compare("grad_input_first5_loss", &first(&self.input.grad()));

        let case = self.golden.case;
        let norms = case.spec["param_grad_norms_of_loss"][&self.prefix].as_object().unwrap();
        let largest = norms.values().map(|norm| norm.as_f64().unwrap()).fold(0.0, f64::max);
        let limit = Limit::Element { rtol: case.tolerance("/grad_norms/rel").unwrap(), atol: 1e-5 * largest };
        for (name, norm) in norms.iter().filter(|(name, _)| !is_wrong_in_the_reference(case, &self.prefix, name)) {
            let gradient = |variable: &Tensor| {
                let gradient = variable.grad();
                if gradient.defined() { gradient } else { variable.zeros_like() }
            };
            match self.golden.place(name, &variables, gradient) {
                Some((_, gradient)) => {
                    let what = format!("{} gradient of {name}", self.prefix);
                    case.compare_number(&what, gradient.norm().double_value(&[]), norm.as_f64().unwrap(), limit);
                }
                None if self.golden.names.is_unused(name) => {}
                None => case.problem(format!("'{name}' has a gradient and no place in our model")),
            }
        }
    }
}
