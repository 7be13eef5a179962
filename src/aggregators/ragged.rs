//! Bags one by one, for methods whose arithmetic depends on a bag's own number of tiles.

use tch::Tensor;

/// The tiles of each bag, without padding: `bags [B,N,W]`, `mask [B,N]` → B times `[n,W]`.
pub(super) fn split(bags: &Tensor, mask: &Tensor) -> Vec<Tensor> {
    let of = |bag: i64| {
        let positions = positions(mask, bag);
        let tiles = bags.get(bag);
        // A bag without padding needs no copy.
        if positions.size() == mask.get(bag).size() { tiles } else { tiles.index_select(0, &positions) }
    };
    (0..bags.size()[0]).map(of).collect()
}

/// The reverse for attention: B times `[K,n]` → `[B,K,N]`, 0 on padding.
pub(super) fn join(rows: &[Tensor], mask: &Tensor) -> Tensor {
    let tiles = mask.size()[1];
    let padded: Vec<Tensor> = (0..mask.size()[0])
        .zip(rows)
        .map(|(bag, row)| row.new_zeros([row.size()[0], tiles], (row.kind(), row.device())).index_copy(1, &positions(mask, bag), row))
        .collect();
    Tensor::stack(&padded, 0)
}

/// Where the bag's tiles are.
fn positions(mask: &Tensor, bag: i64) -> Tensor {
    mask.get(bag).nonzero().squeeze_dim(1)
}
