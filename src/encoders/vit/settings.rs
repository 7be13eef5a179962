//! The numbers of a Vision Transformer, and which of them fit together.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::nn;

/// Settings of a Vision Transformer; the default is ViT-S/16 for 224 px. In brackets: timm's name where it is another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct VitSettings {
    /// E, the width of a token.
    pub embed_dim: u32,
    /// Blocks.
    pub depth: u32,
    /// Attention heads of a block; they share E equally (`num_heads`).
    pub heads: u32,
    /// Outputs of an MLP's first layer, as a multiple of E, rounded down. Of a gated MLP it counts both halves.
    pub mlp_ratio: f64,
    /// The MLP of every block (`mlp_layer`, `act_layer`).
    pub mlp: Mlp,
    /// Side of a patch, pixels (`patch_size`).
    pub patch_px: u32,
    /// Side of the images whose patches the position embedding counts, pixels (`img_size`).
    pub image_px: u32,
    /// Takes images of other sides too: the position embedding is resampled (`dynamic_img_size`).
    pub dynamic_image_px: bool,
    /// That resampling is antialiased, as timm's and that of DINOv2 with registers; the `transformers` classes ViT and Dinov2 do without.
    pub position_antialias: bool,
    /// A class token in front.
    pub class_token: bool,
    /// Register tokens after it (`reg_tokens`).
    pub register_tokens: u32,
    /// Class and register tokens have no position embedding.
    pub no_embed_class: bool,
    /// Biases of query, key and value.
    pub qkv_bias: bool,
    /// A gain for each channel after attention and MLP (`init_values`).
    pub layer_scale: bool,
    /// A normalisation before the first block, and no bias of the patches, as CLIP's.
    pub pre_norm: bool,
    /// The last normalisation is of the embedding and not of the tokens, as timm's average pooling has it.
    pub fc_norm: bool,
    /// ε of every normalisation (`norm_layer`).
    pub norm_epsilon: f64,
    /// How tokens become one vector (`global_pool`).
    pub embedding: Embedding,
}

/// The MLP of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mlp {
    /// Two layers, the exact (erf) GELU between them.
    #[default]
    Gelu,
    /// The first half of the first layer's outputs passes through SiLU and multiplies the second half (timm's `SwiGLUPacked`).
    Swiglu,
}

/// How tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embedding {
    /// The class token: E wide.
    #[default]
    Cls,
    /// The mean of the patch tokens: E wide.
    Mean,
    /// Both, one after the other: 2·E wide.
    #[serde(rename = "cls+mean")]
    ClsMean,
}

impl Default for VitSettings {
    fn default() -> Self {
        Self {
            embed_dim: 384,
            depth: 12,
            heads: 6,
            mlp_ratio: 4.0,
            mlp: Mlp::Gelu,
            patch_px: 16,
            image_px: 224,
            dynamic_image_px: false,
            position_antialias: true,
            class_token: true,
            register_tokens: 0,
            no_embed_class: false,
            qkv_bias: true,
            layer_scale: false,
            pre_norm: false,
            fc_norm: false,
            norm_epsilon: 1e-6,
            embedding: Embedding::Cls,
        }
    }
}

impl VitSettings {
    /// Whether there is such a network, and it takes images of `input_px` × `input_px`.
    ///
    /// # Errors
    /// Names the numbers that do not fit together.
    pub fn check(&self, input_px: u32) -> Result<()> {
        let Self { embed_dim, depth, heads, patch_px, image_px, .. } = *self;
        for (name, value) in [
            ("embed-dim", embed_dim),
            ("depth", depth),
            ("heads", heads),
            ("patch-px", patch_px),
            ("image-px", image_px),
            ("input", input_px),
        ] {
            ensure!((1..=1 << 16).contains(&value), "vit: {name} is {value}; it must be from 1 to 65536");
        }
        ensure!(embed_dim.is_multiple_of(heads), "vit: {heads} heads cannot share an embed-dim of {embed_dim} equally");
        ensure!(image_px.is_multiple_of(patch_px), "vit: image-px {image_px} is not a multiple of patch-px {patch_px}");
        ensure!(input_px.is_multiple_of(patch_px), "vit: images of {input_px} px are no whole number of patches of {patch_px} px");
        ensure!(
            input_px == image_px || self.dynamic_image_px,
            "vit: the network takes images of {image_px} px, not of {input_px} px; dynamic-image-px = true resamples its position embedding"
        );
        let hidden = f64::from(embed_dim) * self.mlp_ratio;
        ensure!((1.0..=f64::from(1 << 20)).contains(&hidden), "vit: mlp-ratio {} makes MLPs of {hidden} units", self.mlp_ratio);
        ensure!(
            self.mlp != Mlp::Swiglu || self.hidden() % 2 == 0,
            "vit: a gated MLP has two halves, and mlp-ratio {} makes {} units",
            self.mlp_ratio,
            self.hidden()
        );
        ensure!(self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0, "vit: norm-epsilon {} is not above 0", self.norm_epsilon);
        ensure!(self.class_token || self.embedding == Embedding::Mean, "vit: without class-token, embedding = \"mean\" is the only one");
        ensure!(
            !(self.fc_norm && self.embedding == Embedding::ClsMean),
            "vit: fc-norm is for one token, and embedding = \"cls+mean\" is two"
        );
        Ok(())
    }

    /// Tokens before those of the patches.
    pub(super) fn prefix(&self) -> i64 {
        i64::from(self.class_token) + i64::from(self.register_tokens)
    }

    /// Patches along a side of an image of `image_px`.
    pub(super) fn grid(&self) -> i64 {
        i64::from(self.image_px / self.patch_px)
    }

    /// Outputs of an MLP's first layer.
    pub(super) fn hidden(&self) -> i64 {
        (f64::from(self.embed_dim) * self.mlp_ratio) as i64
    }

    /// Width of the embedding.
    pub fn width(&self) -> i64 {
        i64::from(self.embed_dim) * if self.embedding == Embedding::ClsMean { 2 } else { 1 }
    }

    /// A normalisation of E channels.
    pub(super) fn norm(&self, path: &nn::Path) -> nn::LayerNorm {
        nn::layer_norm(path, vec![i64::from(self.embed_dim)], nn::LayerNormConfig { eps: self.norm_epsilon, ..Default::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_together_are_refused_by_name() {
        let vit = VitSettings::default;
        let refused = [
            (VitSettings { heads: 5, ..vit() }, 224, "5 heads cannot share an embed-dim of 384"),
            (VitSettings { heads: 0, ..vit() }, 224, "heads is 0"),
            (VitSettings { depth: 0, ..vit() }, 224, "depth is 0"),
            (VitSettings { patch_px: 0, ..vit() }, 224, "patch-px is 0"),
            (VitSettings { embed_dim: u32::MAX, ..vit() }, 224, "embed-dim is 4294967295"),
            (VitSettings { image_px: 230, ..vit() }, 230, "image-px 230 is not a multiple of patch-px 16"),
            (vit(), 256, "takes images of 224 px, not of 256 px"),
            (vit(), 0, "input is 0"),
            (VitSettings { dynamic_image_px: true, ..vit() }, 250, "images of 250 px are no whole number of patches of 16 px"),
            (VitSettings { mlp_ratio: f64::NAN, ..vit() }, 224, "mlp-ratio NaN"),
            (VitSettings { mlp_ratio: -4.0, ..vit() }, 224, "mlp-ratio -4"),
            (VitSettings { mlp: Mlp::Swiglu, mlp_ratio: 2.998, ..vit() }, 224, "makes 1151 units"),
            (VitSettings { norm_epsilon: 0.0, ..vit() }, 224, "norm-epsilon 0"),
            (VitSettings { class_token: false, ..vit() }, 224, "without class-token"),
            (VitSettings { fc_norm: true, embedding: Embedding::ClsMean, ..vit() }, 224, "fc-norm is for one token"),
        ];
        for (settings, input_px, says) in refused {
            let error = settings.check(input_px).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} instead of {says:?}");
        }
        vit().check(224).unwrap();
        VitSettings { dynamic_image_px: true, ..vit() }.check(256).unwrap();
        VitSettings { class_token: false, embedding: Embedding::Mean, ..vit() }.check(224).unwrap();
    }

    #[test]
    fn settings_are_written_as_they_are_read() {
        let text =
            "embed-dim = 1280\ndepth = 32\nheads = 16\nmlp = \"swiglu\"\nmlp-ratio = 5.3375\npatch-px = 14\nembedding = \"cls+mean\"\n";
        let settings: VitSettings = toml::from_str(text).unwrap();
        assert_eq!((settings.width(), settings.hidden(), settings.grid()), (2560, 6832, 16));
        assert_eq!(toml::from_str::<VitSettings>(&toml::to_string(&settings).unwrap()).unwrap(), settings);
        assert!(toml::from_str::<VitSettings>("reg-tokens = 4").is_err());
    }
}
