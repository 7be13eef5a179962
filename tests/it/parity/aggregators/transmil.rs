//! TransMIL with both versions of its attention package.

use wsi::aggregators::Aggregator;
use wsi::aggregators::transmil::{RELEASED, RowsKept, TransMilSettings};

use super::super::case::Case;
use super::golden::{Golden, whole};

pub fn check(case: &Case) {
    let width = whole(case, "dim");
    assert_eq!((whole(case, "heads"), whole(case, "landmarks"), whole(case, "pinv_iterations")), (8, width / 2, 6), "{}", case.name);
    let rows_kept = if case.name.contains("nys0.0.9") { RowsKept::First } else { RowsKept::Last };
    let settings = TransMilSettings { width, rows_kept };
    let (golden, model) = Golden::new(case, &RELEASED, |path, features| settings.build(path, features).unwrap());
    for bag in golden.bags() {
        let pooled = model.pool(&bag.input, &bag.mask, false, None);
        let logits = bag.logits(&pooled);
        bag.compare("bag", &pooled.embedding);
        let reading = model.read(&bag.input.squeeze_dim(0), false);
        for (layer, (attention, added)) in reading.attention.iter().zip(&reading.added).enumerate() {
            bag.compare(&format!("attn_cls_layer{}", layer + 1), attention);
            bag.compare(&format!("attn_out_first4_layer{}", layer + 1), &added.narrow(0, 0, added.size()[0].min(4)));
        }
        bag.finish(&logits, &bag.cross_entropy(&logits));
    }
}
