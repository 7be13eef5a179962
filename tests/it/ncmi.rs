//! NCMI by hand: worked values in f64, and the properties that the definition promises.

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};
use wsi::ground::batch::Output;
use wsi::ground::distributions::{OutputMap, divergence_to_centroids, kl_matrix};
use wsi::losses::ncmi::{Centring, CentroidUpdate, Centroids, Ncmi, NcmiSettings, Reduction, SepFloor, Start, identity_code, ratios};
use wsi::losses::{Loss, LossSettings, Moment, Site};

struct Bench {
    store: VarStore,
    loss: Ncmi,
}

impl Bench {
    fn new(settings: NcmiSettings, classes: i64, width: i64) -> Self {
        let mut store = VarStore::new(Device::Cpu);
        store.set_kind(Kind::Double);
        // Worked values are for 10 + 1e-6 in f64.
        let centroids = Tensor::eye_m(classes, width, (Kind::Double, Device::Cpu)) * 10.0 + 1e-6;
        let loss = settings.on(&Site { path: store.root() / "loss", classes, width }, &centroids);
        Self { store, loss }
    }

    fn tensor(&self, name: &str) -> Tensor {
        self.store.variables().remove(&format!("loss.{name}")).unwrap()
    }

    fn centre(self, values: &[f64]) -> Self {
        no_grad(|| {
            self.tensor("centre").copy_(&Tensor::from_slice(values));
            let _ = self.tensor("centre-known").fill_(1.0);
        });
        self
    }

    fn loss(&mut self, embedding: &Tensor, targets: &[i64]) -> Tensor {
        self.loss.forward(&output(embedding), &Tensor::from_slice(targets)).total
    }
}

fn output(embedding: &Tensor) -> Output {
    Output { embedding: embedding.shallow_clone(), head: None, attention: None }
}

fn matrix(rows: &[&[f64]]) -> Tensor {
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, rows[0].len() as i64])
}

fn close(found: &Tensor, expected: &[f64], tolerance: f64) {
    let found = Vec::<f64>::try_from(found.detach().flatten(0, -1)).unwrap();
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }
}

fn embeddings() -> Tensor {
    matrix(&[&[2.0, 0.0, 1.0, 0.5], &[0.0, 1.5, 0.5, 0.0], &[0.2, 0.1, 0.0, 1.0]])
}

/// The centre does not move, so that the worked values of one batch hold.
fn still(reduction: Reduction) -> NcmiSettings {
    NcmiSettings { temperature: 0.5, centre_decay: 1.0, sep_floor: SepFloor::Off, reduction, ..Default::default() }
}

#[test]
fn the_centre_copies_the_first_mean_and_then_decays() {
    let settings = NcmiSettings { centring: Centring::FirstBatch, centre_decay: 0.9, ..Default::default() };
    let mut bench = Bench::new(settings, 3, 4);
    let _ = bench.loss(&embeddings(), &[0, 1, 1]);
    close(&bench.tensor("centre"), &[0.73333333, 0.53333333, 0.5, 0.5], 1e-8);
    let _ = bench.loss(&matrix(&[&[1.0, 1.0, 1.0, 1.0], &[3.0, 1.0, 0.0, 0.0]]), &[0, 1]);
    close(&bench.tensor("centre"), &[0.86, 0.58, 0.5, 0.5], 1e-8);
}

#[test]
fn one_batch_and_its_gradients_meet_the_worked_values() {
    let z = embeddings().set_requires_grad(true);
    let mut bench = Bench::new(still(Reduction::MeanOfRatios), 3, 4).centre(&[0.5; 4]);
    let total = bench.loss(&z, &[0, 1, 1]);
    close(&total, &[0.6432204020], 1e-9);
    total.backward();
    #[rustfmt::skip]
    close(&z.grad(), &[
        -0.06114083, -0.05950771, 0.12391479, 0.01306209, -0.0509978, -0.06878988, 0.15281507, -0.08658196,
        0.22102699, -0.59415439, 0.3479018, 0.00519448,
    ], 1e-8);
    #[rustfmt::skip]
    close(&bench.loss.centroid_gradient().unwrap(), &[
        -0.00000669, 0.11237448, -0.14117436, 0.10251102, 0.07779813, 0.00001604, -0.0078352, -0.24663668,
        0.05017551, 0.02208169, -0.00001876, 0.13430995,
    ], 1e-8);

    let log_p = bench.loss.log_distribution(&output(&z));
    let log_q = OutputMap::Nsf.log(&bench.tensor("centroids"));
    let parts = ratios(&log_p, &log_q, &Tensor::from_slice(&[0i64, 1, 1]));
    close(&parts.cmi, &[0.02112203, 0.01823156, 0.21886698], 1e-8);
    close(&parts.sep, &[0.09192046, 0.11354666, 0.14218505], 1e-8);
    close(&kl_matrix(&log_q, &log_p).get(0), &[0.02064271, 0.21925287, 0.18025416], 1e-8);

    let mut literal = Bench::new(still(Reduction::RatioOfMeans), 3, 4).centre(&[0.5; 4]);
    close(&literal.loss(&embeddings(), &[0, 1, 1]), &[0.7427555195], 1e-9);
}

/// The trap of docs/losses.md: one coordinate that is negative in every sample costs a third of the loss of no direction at all, whatever the
/// labels are, and less the lower the temperature. The numbers are worked by hand from the definition.
#[test]
fn a_negative_coordinate_that_all_samples_share_is_cheap_whatever_their_labels() {
    let (classes, width) = (100, 128);
    let spike = Tensor::zeros([2, width], (Kind::Double, Device::Cpu));
    let _ = spike.narrow(1, classes - 1, 1).fill_(-1.0);
    for (temperature, expected) in [(0.2, 0.33462), (0.5, 0.6898), (1.0, 0.8048)] {
        let settings = NcmiSettings { temperature, centring: Centring::Off, ..Default::default() };
        close(&Bench::new(settings, classes, width).loss(&spike, &[0, 7]), &[expected], 1e-4);
    }
}

#[test]
fn the_nearest_centroid_decides() {
    let bench = Bench::new(still(Reduction::MeanOfRatios), 3, 4).centre(&[0.5; 4]);
    let centroids = matrix(&[&[0.4, 0.2, 0.2, 0.2], &[0.2, 0.4, 0.2, 0.2], &[0.2, 0.2, 0.4, 0.2]]);
    let log_p = bench.loss.log_distribution(&output(&embeddings()));
    let divergence = divergence_to_centroids(&log_p, &centroids, &Tensor::from_slice(&[1.0f64, 1.0, 1.0]));
    #[rustfmt::skip]
    close(&divergence, &[
        0.02112367, 0.16966794, 0.08367415, 0.2066886, 0.01823022, 0.13789557, 0.19778902, 0.21887727, 0.23797172,
    ], 1e-8);
    assert_eq!(Vec::<i64>::try_from(divergence.argmin(1, false)).unwrap(), [0, 1, 0]);
}

#[test]
fn one_sample_of_two_classes_needs_a_floor() {
    let z = matrix(&[&[1.0, 0.0]]);
    let with = |floor| NcmiSettings { temperature: 0.2, centring: Centring::Off, sep_floor: floor, ..Default::default() };
    close(&Bench::new(with(SepFloor::Off), 2, 2).loss(&z, &[0]), &[4.32676e-5], 1e-9);
    let wrong = Bench::new(with(SepFloor::Off), 2, 2).loss(&z, &[1]).double_value(&[]);
    assert!((wrong - 92584.11).abs() < 1.0, "{wrong}");
    let floored = Bench::new(with(SepFloor::Auto), 2, 2).loss(&z, &[1]).double_value(&[]);
    assert!(floored.is_finite() && floored < 100.0, "{floored}");
}

#[test]
fn stretching_about_the_centre_and_renaming_classes_change_nothing() {
    let centre = Tensor::from_slice(&[0.5f64; 4]);
    let stretched = &centre + (embeddings() - &centre) * 3.7;
    let of =
        |z: &Tensor, targets: &[i64]| Bench::new(still(Reduction::MeanOfRatios), 3, 4).centre(&[0.5; 4]).loss(z, targets).double_value(&[]);
    let plain = of(&embeddings(), &[0, 1, 1]);
    assert!((of(&stretched, &[0, 1, 1]) - plain).abs() < 1e-12);

    let mut renamed = Bench::new(still(Reduction::MeanOfRatios), 3, 4).centre(&[0.5; 4]);
    let order = Tensor::from_slice(&[2i64, 0, 1]); // new class c was order[c]
    no_grad(|| {
        let turned = renamed.tensor("centroids").index_select(0, &order);
        renamed.tensor("centroids").copy_(&turned);
    });
    assert!((renamed.loss(&embeddings(), &[1, 2, 2]).double_value(&[]) - plain).abs() < 1e-12);
}

#[test]
fn the_gradient_is_the_slope() {
    let at = |step: f64| {
        let z = embeddings();
        let _ = z.get(0).get(0).g_add_scalar_(step);
        Bench::new(still(Reduction::MeanOfRatios), 3, 4).centre(&[0.5; 4]).loss(&z, &[0, 1, 1]).double_value(&[])
    };
    let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
    assert!((slope - -0.0611408314).abs() < 1e-8, "{slope}");
}

#[test]
fn a_sample_on_the_centre_is_left_out_and_one_class_is_enough() {
    let mut bench = Bench::new(NcmiSettings { centring: Centring::FirstBatch, ..Default::default() }, 3, 4);
    let z = matrix(&[&[0.3, 0.1, 0.2, 0.4]]).set_requires_grad(true);
    let total = bench.loss(&z, &[1]);
    total.backward();
    assert_eq!((total.double_value(&[]), z.grad().abs().max().double_value(&[])), (0.0, 0.0));
    let mut centreless = Bench::new(NcmiSettings { centring: Centring::Off, ..Default::default() }, 3, 4);
    let zero = matrix(&[&[0.0; 4], &[1.0, 0.0, 0.0, 0.0]]).set_requires_grad(true);
    centreless.loss(&zero, &[1, 0]).backward();
    assert_eq!(zero.grad().get(0).abs().max().double_value(&[]), 0.0);
    assert!(zero.grad().isfinite().all().int64_value(&[]) == 1);

    let mut same = Bench::new(still(Reduction::MeanOfRatios), 3, 4).centre(&[0.5; 4]);
    assert!(same.loss(&embeddings(), &[1, 1, 1]).double_value(&[]).is_finite());
    assert_eq!(identity_code(3, 4).size(), [3, 4]);
}

/// R after one step of the centroids' own SGD at rate 1 on the embeddings, which a model would have moved to `revised`.
fn centroids_after(update: CentroidUpdate, revised: &Tensor) -> Tensor {
    let settings = NcmiSettings { centroid_update: update, centroid_start: Start::Epoch(1), ..still(Reduction::MeanOfRatios) };
    let mut bench = Bench::new(settings, 3, 4).centre(&[0.5; 4]);
    let moment = Moment { epoch: 1, epochs: 4, rate_share: 1.0 };
    bench.loss(&embeddings().set_requires_grad(true), &[0, 1, 1]).backward();
    if bench.loss.wants_revision(&moment) {
        bench.loss.revise(&output(revised), &Tensor::from_slice(&[0i64, 1, 1]), &moment);
    } else {
        bench.loss.step(&moment);
    }
    bench.tensor("centroids").detach()
}

#[test]
fn gauss_seidel_steps_on_the_model_that_has_just_stepped() {
    let moved = embeddings() * 0.5 + 0.7;
    let simultaneous = centroids_after(CentroidUpdate::Simultaneous, &moved);
    assert_eq!(simultaneous, centroids_after(CentroidUpdate::Simultaneous, &embeddings()));
    assert_ne!(simultaneous, centroids_after(CentroidUpdate::GaussSeidel, &moved));
    // A model that has not moved makes the two the same.
    let still = centroids_after(CentroidUpdate::GaussSeidel, &embeddings());
    assert!((simultaneous - still).abs().max().double_value(&[]) < 1e-12);
}

#[test]
fn averaged_centroids_follow_their_class_and_absent_classes_stay() {
    let settings = NcmiSettings {
        centroids: Centroids::Ema,
        centroid_decay: 0.9,
        centroid_start: Start::Share(0.0),
        ..still(Reduction::MeanOfRatios)
    };
    let mut bench = Bench::new(settings, 3, 4).centre(&[0.5; 4]);
    let before = bench.tensor("centroid-averages").copy();
    let total = bench.loss(&embeddings().set_requires_grad(true), &[0, 1, 1]);
    total.backward();
    assert!(bench.loss.centroid_gradient().is_none(), "the parameters take no part");
    bench.loss.step(&Moment { epoch: 1, epochs: 4, rate_share: 1.0 });
    let p = bench.loss.log_distribution(&output(&embeddings())).exp();
    let mean = (p.get(1) + p.get(2)) / 2.0;
    let expected = before.get(1) * 0.9 + mean * 0.1;
    let found = bench.tensor("centroid-averages");
    // Both are distributions up to the 1e-8 in the normaliser.
    assert!((found.get(1) - &expected / expected.sum(Kind::Double)).abs().max().double_value(&[]) < 1e-7);
    assert!((found.get(2) - before.get(2)).abs().max().double_value(&[]) < 1e-7);
}

#[test]
fn a_fixed_centroid_has_no_gradient() {
    let fixed = NcmiSettings { centroids: Centroids::Fixed, ..still(Reduction::MeanOfRatios) };
    let mut bench = Bench::new(fixed, 3, 4).centre(&[0.5; 4]);
    bench.loss(&embeddings().set_requires_grad(true), &[0, 1, 1]).backward();
    assert!(bench.loss.centroid_gradient().is_none());
    let mut live = Bench::new(still(Reduction::MeanOfRatios), 3, 4).centre(&[0.5; 4]);
    let _ = live.loss(&embeddings(), &[0, 1, 1]);
    assert!(live.loss.centroid_gradient().unwrap().abs().max().double_value(&[]) > 0.1);
}

/// The initial centroids of NCMI with C classes and E coordinates, or why there are none.
fn initial(init: &str, classes: i64, width: i64) -> Result<Tensor, String> {
    let settings: LossSettings = serde_json::from_value(serde_json::json!({"name": "ncmi", "init": init})).unwrap();
    let store = VarStore::new(Device::Cpu);
    tch::manual_seed(5);
    match settings.build(&Site { path: store.root() / "loss", classes, width }) {
        Ok(_) => Ok(store.variables().remove("loss.centroids").unwrap().detach()),
        Err(error) => Err(format!("{error:#}")),
    }
}

#[test]
fn codes_give_every_class_coordinates_of_its_own() {
    let owned = |code: &Tensor| code.gt(1.0).sum_dim_intlist(1, false, Kind::Int64);
    let block = initial("block-code", 3, 8).unwrap();
    assert_eq!(Vec::<i64>::try_from(owned(&block)).unwrap(), [2, 2, 2]);
    assert_eq!(block.gt(1.0).sum_dim_intlist(0, false, Kind::Int64).max().int64_value(&[]), 1, "no coordinate has two owners");
    let random = initial("random-code", 20, 8).unwrap();
    assert_eq!(Vec::<i64>::try_from(owned(&random)).unwrap(), [4; 20]);
    assert_eq!(random.unique_dim(0, true, false, false).0.size()[0], 20, "codes differ");
    assert_eq!(random, initial("random-code", 20, 8).unwrap(), "the seed decides");
    for init in ["identity", "block-code"] {
        let error = initial(init, 20, 8).unwrap_err();
        assert!(error.contains(init) && error.contains("8 coordinates for 20 classes") && error.contains("random-code"), "{error}");
    }
    assert!(initial("random-code", 8, 2).unwrap_err().contains("too few"));
}
