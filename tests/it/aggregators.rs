//! What every aggregator must keep, whatever the method: padding, single tiles, attention, gradients.

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};
use wsi::aggregators::abmil::AbmilSettings;
use wsi::aggregators::max::{MaxSettings, Of};
use wsi::aggregators::{Aggregator, AggregatorSettings};

const FEATURES: i64 = 16;
const CLASSES: i64 = 3;

/// Every member with its default settings, and those with forms of another shape, with random weights.
fn each(check: impl Fn(&str, &VarStore, &dyn Aggregator)) {
    let mut all: Vec<(String, AggregatorSettings)> =
        AggregatorSettings::NAMES.iter().map(|&name| (name.to_owned(), AggregatorSettings::named(name).unwrap())).collect();
    for of in [Of::Logits, Of::Instance] {
        all.push((format!("max of {of:?}"), AggregatorSettings::Max(MaxSettings { of, ..Default::default() })));
    }
    all.push(("abmil of three layers".into(), AggregatorSettings::Abmil(AbmilSettings { hidden: vec![32, 24], ..Default::default() })));
    for (name, settings) in all {
        tch::manual_seed(7);
        let store = VarStore::new(Device::Cpu);
        let model = settings.build(&store.root(), FEATURES, CLASSES).unwrap();
        check(&name, &store, model.as_ref());
    }
}

/// Bags of these numbers of tiles in one batch, padded with tens, and the mask.
fn batch(counts: &[i64]) -> (Tensor, Tensor) {
    let longest = *counts.iter().max().unwrap();
    let mask = Tensor::arange(longest, (Kind::Int64, Device::Cpu)).unsqueeze(0).lt_tensor(&Tensor::from_slice(counts).unsqueeze(1));
    let bags = Tensor::randn([counts.len() as i64, longest, FEATURES], (Kind::Float, Device::Cpu));
    (bags.where_self(&mask.unsqueeze(-1), &Tensor::from(10.0f32)), mask)
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn a_bag_alone_is_the_same_bag_padded_in_a_batch() {
    each(|name, _, model| {
        let counts = [5, 1, 12];
        let (bags, mask) = batch(&counts);
        let targets = Tensor::from_slice(&[2i64, 0, 1]);
        let together = no_grad(|| model.pool(&bags, &mask, false, Some(&targets)));
        let mut terms = vec![0.0; together.terms.len()];
        for (row, &count) in counts.iter().enumerate() {
            let row = row as i64;
            let tiles = bags.narrow(0, row, 1).narrow(1, 0, count);
            let all = Tensor::ones([1, count], (Kind::Bool, Device::Cpu));
            let alone = no_grad(|| model.pool(&tiles, &all, false, Some(&targets.narrow(0, row, 1))));
            assert_eq!(alone.embedding.size(), [1, model.width()], "{name}");
            assert!(alone.embedding.isfinite().all().int64_value(&[]) == 1, "{name}: {count} tiles");
            assert!(difference(&alone.embedding.get(0), &together.embedding.get(row)) < 1e-5, "{name}: {count} tiles");
            if let (Some(alone), Some(together)) = (&alone.attention, &together.attention) {
                assert!(difference(&alone.get(0), &together.get(row).narrow(1, 0, count)) < 1e-5, "{name}: attention");
                assert!(together.get(row).narrow(1, count, 12 - count).count_nonzero(None).int64_value(&[]) == 0, "{name}: padding");
                assert!(difference(&together.get(row).sum_dim_intlist(-1, false, Kind::Float), &Tensor::from(1.0f32)) < 1e-5, "{name}");
            }
            for (sum, (_, term)) in terms.iter_mut().zip(&alone.terms) {
                *sum += term.double_value(&[]) / counts.len() as f64;
            }
        }
        for (mean, (term, value)) in terms.iter().zip(&together.terms) {
            assert!((mean - value.double_value(&[])).abs() < 1e-5, "{name}: term {term}");
        }
    });
}

#[test]
fn training_a_padded_batch_gives_finite_gradients_to_every_parameter() {
    each(|name, store, model| {
        let (bags, mask) = batch(&[5, 1, 40]);
        let pooled = model.pool(&bags, &mask, true, Some(&Tensor::from_slice(&[2i64, 0, 1])));
        let loss = pooled.terms.iter().fold(pooled.embedding.square().mean(Kind::Float), |sum, (_, term)| sum + term);
        loss.backward();
        for (parameter, tensor) in store.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad()) {
            let gradient = tensor.grad();
            assert!(gradient.defined(), "{name}: '{parameter}' has no gradient");
            assert!(gradient.isfinite().all().int64_value(&[]) == 1, "{name}: gradient of '{parameter}'");
        }
    });
}

#[test]
fn a_bag_without_tiles_is_refused_by_its_place() {
    each(|name, _, model| {
        let (bags, mask) = batch(&[4, 3]);
        let _ = mask.get(1).fill_(0);
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| model.pool(&bags, &mask, false, None)));
        let message = *refused.err().unwrap_or_else(|| panic!("{name} pooled an empty bag")).downcast::<String>().unwrap();
        assert!(message.contains("bag 1 of the batch has no tiles"), "{name}: {message}");
    });
}
