//! From an image to tokens: a linear map of each patch, positions added, class and register tokens in front.

use std::sync::Mutex;

use tch::{Kind, Tensor, nn};

use super::{SPREAD, VitSettings};
use crate::encoders::{blocks, channels_last};

/// Images to the tokens that the first block sees.
pub(super) struct Patches {
    settings: VitSettings,
    kernel: Tensor,
    bias: Option<Tensor>,
    /// Class token, then registers; `[1,1,E]` and `[1,R,E]`, those that there are.
    in_front: Vec<Tensor>,
    /// `[1, P, E]`, or with the tokens in front.
    positions: Tensor,
    /// Positions of the last other size, once frozen: one tensor as large as the tokens of an image.
    resampled: Option<Mutex<Option<(Grid, Tensor)>>>,
}

/// Patches along height and width.
type Grid = [i64; 2];

impl Patches {
    pub(super) fn new(path: &nn::Path, settings: &VitSettings) -> Self {
        let (width, side) = (i64::from(settings.embed_dim), i64::from(settings.patch_px));
        let project = path.sub("patch_embed").sub("proj");
        let token = |name: &str, count: i64| path.randn(name, &[1, count, width], 0.0, 1e-6);
        let mut in_front = Vec::new();
        if settings.class_token {
            in_front.push(token("cls_token", 1));
        }
        if settings.register_tokens > 0 {
            in_front.push(token("reg_token", i64::from(settings.register_tokens)));
        }
        let placed = settings.grid().pow(2) + if settings.no_embed_class { 0 } else { settings.prefix() };
        let bound = 1.0 / ((3 * side * side) as f64).sqrt();
        Self {
            kernel: project.var("weight", &[width, 3, side, side], blocks::framework_default()),
            bias: (!settings.pre_norm).then(|| project.uniform("bias", &[width], -bound, bound)),
            in_front,
            positions: path.randn("pos_embed", &[1, placed, width], 0.0, SPREAD),
            resampled: None,
            settings: settings.clone(),
        }
    }

    /// `[B,3,H,W]` → `[B, prefix + H/p · W/p, E]`
    pub(super) fn forward(&self, images: &Tensor) -> Tensor {
        let (batch, _, height, width) = images.size4().expect("a batch of images");
        let (side, image_px) = (i64::from(self.settings.patch_px), i64::from(self.settings.image_px));
        assert!(
            height % side == 0 && width % side == 0 && (self.settings.dynamic_image_px || [height, width] == [image_px; 2]),
            "a Vision Transformer for {image_px} px with patches of {side} px was given images of {height} × {width} px"
        );
        let map = images.conv2d(&self.kernel, self.bias.as_ref(), [side, side], [0, 0], [1, 1], 1);
        let patches = map.permute([0, 2, 3, 1]).reshape([batch, -1, i64::from(self.settings.embed_dim)]);
        let positions = self.positions([height / side, width / side]);
        let front = self.in_front.iter().map(|token| token.expand([batch, -1, -1], false));
        if self.settings.no_embed_class {
            Tensor::cat(&front.chain([patches + positions]).collect::<Vec<_>>(), 1)
        } else {
            Tensor::cat(&front.chain([patches]).collect::<Vec<_>>(), 1) + positions
        }
    }

    pub(super) fn freeze(&mut self) {
        self.kernel = channels_last(&self.kernel);
        self.resampled = Some(Mutex::default());
    }

    /// The position embedding for a grid of patches, `[1, P, E]`, with the tokens in front where those have positions.
    fn positions(&self, grid: Grid) -> Tensor {
        if grid == [self.settings.grid(); 2] {
            return self.positions.shallow_clone();
        }
        let Some(kept) = &self.resampled else { return self.resample(grid) };
        let mut kept = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*kept {
            Some((of, positions)) if *of == grid => positions.shallow_clone(),
            _ => kept.insert((grid, self.resample(grid))).1.shallow_clone(),
        }
    }

    /// Bicubic, in single precision whatever the weights are in, as all references do; the tokens in front keep theirs.
    fn resample(&self, grid: Grid) -> Tensor {
        let width = i64::from(self.settings.embed_dim);
        let count = self.positions.size()[1] - self.settings.grid().pow(2);
        let map = self.positions.narrow(1, count, self.settings.grid().pow(2)).to_kind(Kind::Float);
        let map = map.reshape([1, self.settings.grid(), self.settings.grid(), width]).permute([0, 3, 1, 2]);
        let map = if self.settings.position_antialias {
            map.internal_upsample_bicubic2d_aa(grid, false, None, None)
        } else {
            map.upsample_bicubic2d(grid, false, None, None)
        };
        let patches = map.permute([0, 2, 3, 1]).reshape([1, -1, width]).to_kind(self.positions.kind());
        Tensor::cat(&[self.positions.narrow(1, 0, count), patches], 1)
    }
}
