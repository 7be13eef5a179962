//! Vision Transformer: one network for timm's options that pathology models use, with timm's names.
//!
//! Dosovitskiy et al. 2021, with what came since: register tokens (Darcet et al. 2024), layer scale (Touvron et al. 2021),
//! gated MLPs (Shazeer 2020), images of other sizes. UNI, Virchow, GigaPath, H-optimus, Phikon, Hibou, Midnight and Kaiko
//! differ by nothing but the numbers of [`VitSettings`].

mod attention;
mod block;
mod linear;
mod mlp;
pub mod names;
mod patches;
mod settings;

use tch::nn::Module;
use tch::{Tensor, nn};

pub use settings::{Embedding, Mlp, VitSettings};

use super::Encoder;
use block::Block;
use patches::Patches;

/// Standard deviation of a new network's weights; its biases start at zero.
const SPREAD: f64 = 0.02;

/// Patches to tokens, blocks, a final normalisation, an embedding.
pub struct VisionTransformer {
    settings: VitSettings,
    patches: Patches,
    before: Option<nn::LayerNorm>,
    blocks: Vec<Block>,
    /// Of every token.
    after: Option<nn::LayerNorm>,
    /// Of the embedding.
    of_pooled: Option<nn::LayerNorm>,
}

impl VisionTransformer {
    /// Creates the variables under `path`. The settings have passed [`VitSettings::check`].
    pub fn new(path: &nn::Path, settings: &VitSettings) -> Self {
        let norm = |name: &str| settings.norm(&path.sub(name));
        Self {
            patches: Patches::new(path, settings),
            before: settings.pre_norm.then(|| norm("norm_pre")),
            blocks: (0..settings.depth).map(|index| Block::new(&path.sub("blocks").sub(index), settings)).collect(),
            after: (!settings.fc_norm).then(|| norm("norm")),
            of_pooled: settings.fc_norm.then(|| norm("fc_norm")),
            settings: settings.clone(),
        }
    }

    /// All tokens of the last block, normalised where tokens are: class, registers, patches row by row.
    /// `[B,3,H,W]` → `[B,T,E]`.
    ///
    /// # Panics
    /// The network does not take images of this size; [`VitSettings::check`] says so beforehand.
    pub fn tokens(&self, images: &Tensor) -> Tensor {
        let stream = self.blocks.iter().fold(self.enter(images), |stream, block| block.forward(stream));
        normalise(self.after.as_ref(), stream)
    }

    /// The class tokens alone, `[B,3,H,W]` → `[B,E]`: of the last block, nothing else is computed.
    fn class_token(&self, images: &Tensor) -> Tensor {
        let (last, before) = self.blocks.split_last().expect("a network has a block");
        let stream = before.iter().fold(self.enter(images), |stream, block| block.forward(stream));
        normalise(self.after.as_ref(), last.first_token(&stream)).squeeze_dim(1)
    }

    /// What the first block sees.
    fn enter(&self, images: &Tensor) -> Tensor {
        normalise(self.before.as_ref(), self.patches.forward(images))
    }
}

/// Width of a token from which on (ViT-H, ViT-g) a processor core takes seconds for a tile.
const GIANT: u32 = 1280;

impl Encoder for VisionTransformer {
    /// The same in training and in evaluation: nothing here depends on the batch, and nothing is dropped at random.
    fn embed(&self, images: &Tensor, _train: bool) -> Tensor {
        let prefix = self.settings.prefix();
        let mean = |tokens: &Tensor| tokens.narrow(1, prefix, tokens.size()[1] - prefix).mean_dim(1, false, tokens.kind());
        let embedding = match self.settings.embedding {
            Embedding::Cls => self.class_token(images),
            Embedding::Mean => mean(&self.tokens(images)),
            Embedding::ClsMean => {
                let tokens = self.tokens(images);
                Tensor::cat(&[tokens.select(1, 0), mean(&tokens)], 1)
            }
        };
        normalise(self.of_pooled.as_ref(), embedding)
    }

    fn width(&self) -> i64 {
        self.settings.width()
    }

    /// One of the giants, which takes seconds: between two the extraction looks whether it should end.
    fn tiles_at_once(&self) -> usize {
        if self.settings.embed_dim >= GIANT { 1 } else { 4 }
    }

    fn freeze(&mut self) {
        tch::no_grad(|| {
            self.patches.freeze();
            self.blocks.iter_mut().for_each(Block::freeze);
        });
    }
}

fn normalise(norm: Option<&nn::LayerNorm>, tokens: Tensor) -> Tensor {
    match norm {
        Some(norm) => norm.forward(&tokens),
        None => tokens,
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, nn::VarStore};

    use super::*;

    /// A small network of every option, with variables far from their start.
    fn network(settings: &VitSettings) -> (VarStore, VisionTransformer) {
        tch::manual_seed(7);
        let store = VarStore::new(Device::Cpu);
        let network = VisionTransformer::new(&store.root(), settings);
        for (name, mut variable) in store.variables() {
            let centre = if name.ends_with("gamma") || name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
            tch::no_grad(|| variable.copy_(&(variable.randn_like() * 0.2 + centre)));
        }
        (store, network)
    }

    fn settings() -> VitSettings {
        VitSettings { embed_dim: 48, depth: 3, heads: 3, patch_px: 4, image_px: 96, layer_scale: true, ..VitSettings::default() }
    }

    fn images(side: i64) -> Tensor {
        tch::manual_seed(side);
        Tensor::randn([2, 3, side, side], (Kind::Float, Device::Cpu))
    }

    fn deviation(ours: &Tensor, theirs: &Tensor) -> f64 {
        assert_eq!(ours.size(), theirs.size());
        ((ours - theirs).abs().max() / theirs.abs().max()).double_value(&[])
    }

    #[test]
    fn the_class_token_alone_is_the_first_of_all() {
        let (_store, network) = network(&settings());
        let images = images(96);
        let all = network.tokens(&images).select(1, 0);
        assert!(deviation(&network.embed(&images, false), &all) < 1e-6);
    }

    #[test]
    fn frozen_equals_trained_up_to_rounding_at_every_size() {
        let several = [
            settings(),
            VitSettings { mlp: Mlp::Swiglu, register_tokens: 4, no_embed_class: true, qkv_bias: false, ..settings() },
            VitSettings { class_token: false, embedding: Embedding::Mean, fc_norm: true, pre_norm: true, ..settings() },
            VitSettings { embedding: Embedding::ClsMean, layer_scale: false, register_tokens: 1, position_antialias: false, ..settings() },
        ];
        for settings in several {
            let settings = VitSettings { dynamic_image_px: true, ..settings };
            let (_store, mut network) = network(&settings);
            let sizes = [96, 80, 112, 80].map(images);
            let embed = |network: &VisionTransformer| sizes.each_ref().map(|images| tch::no_grad(|| network.embed(images, false)));
            let trained = embed(&network);
            network.freeze();
            for (frozen, trained) in embed(&network).iter().zip(&trained) {
                assert_eq!(frozen.size(), [2, network.width()]);
                let deviation = deviation(frozen, trained);
                assert!(deviation < 1e-5, "{settings:?}: {deviation}");
            }
        }
    }

    #[test]
    fn half_precision_keeps_the_direction() {
        let (mut store, mut network) = network(&VitSettings { dynamic_image_px: true, embedding: Embedding::ClsMean, ..settings() });
        let images = [images(96), images(80)];
        let embed = |network: &VisionTransformer, kind| {
            images.each_ref().map(|images| tch::no_grad(|| network.embed(&images.to_kind(kind), false)).to_kind(Kind::Float))
        };
        let single = embed(&network, Kind::Float);
        store.bfloat16();
        network.freeze();
        for (half, single) in embed(&network, Kind::BFloat16).iter().zip(&single) {
            let cosine = Tensor::cosine_similarity(half, single, 1, 1e-8).min().double_value(&[]);
            assert!((0.999..0.999_999).contains(&cosine), "{cosine}");
        }
    }

    #[test]
    #[should_panic(expected = "for 96 px with patches of 4 px was given images of 80 × 80 px")]
    fn images_of_another_size_are_a_bug_of_the_caller() {
        let _ = network(&settings()).1.embed(&images(80), false);
    }

    #[test]
    fn every_variable_gets_a_gradient() {
        for embedding in [Embedding::Cls, Embedding::ClsMean] {
            let (store, network) = network(&VitSettings { embedding, register_tokens: 2, ..settings() });
            network.embed(&images(96), true).square().sum(Kind::Float).backward();
            for (name, variable) in store.variables() {
                assert!(variable.grad().defined() && variable.grad().abs().max().double_value(&[]) > 0.0, "{name} has none");
            }
        }
    }
}
