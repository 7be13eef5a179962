//! What flows through a model: a batch in, an output out. Slides and natural images meet here.

use tch::{Kind, Tensor};

/// What flows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Bags of features of this width (D).
    Bags(i64),
    /// Images.
    Images,
    /// Bags of images.
    ImageBags,
}

/// A batch of bags (`inputs [B,N,D]`, `mask [B,N]`), of images (`inputs [B,3,H,W]`, no mask), or of bags of images
/// (`inputs [B,N,3,H,W]`, `mask [B,N]`).
#[derive(Debug)]
pub struct Batch {
    /// Bags `[B,N,D]` or `[B,N,3,H,W]`, padded to the longest, or images `[B,3,H,W]`; f32.
    pub inputs: Tensor,
    /// `[B,N]` bool, true where a tile or an image of a bag is; `None` for images without bags.
    pub mask: Option<Tensor>,
    /// Class indices `[B]`, i64.
    pub targets: Tensor,
    /// Position of each row in its dataset.
    pub rows: Vec<usize>,
}

/// What a model says of a batch.
#[derive(Debug)]
pub struct Output {
    /// `[B,E]`: pooled and projected; what NCMI and the probes read.
    pub embedding: Tensor,
    /// Logits `[B,C]` or vectors to contrast `[B,W]`, whichever head the objective asked for.
    pub head: Option<Tensor>,
    /// `[B,K,N]`, rows sum to 1 over N; only for aggregators that attend (K branches).
    pub attention: Option<Tensor>,
}

impl Output {
    /// In f32, whatever the model computed in.
    pub fn single(self) -> Self {
        let single = |tensor: Tensor| tensor.to_kind(Kind::Float);
        Self { embedding: single(self.embedding), head: self.head.map(single), attention: self.attention.map(single) }
    }
}
