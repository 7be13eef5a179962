//! Published Vision Transformers under timm's names, whatever layout they were saved in.
//!
//! Understood beside timm's own: the classes ViT, Dinov2 and Dinov2WithRegisters of `transformers`, and DINOv2's training
//! code, each also inside a larger network (`module.`, `backbone.`, `teacher.`, …).

use std::collections::BTreeMap;

use tch::Tensor;

/// A state dict under timm's names.
pub struct Renamed {
    /// Tensors by timm's names; what no layout knows keeps its own.
    pub tensors: BTreeMap<String, Tensor>,
    /// Names, as they were, of tensors that extraction has no use for: other networks of the file, the token that stands for
    /// masked patches, the layer that `transformers` puts after the class token.
    pub left_out: Vec<String>,
}

/// By the name of one tensor that every network of the layout has: the layout.
const KERNELS: [&str; 2] = ["patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight"];

const LEFT_OUT: [&str; 4] = ["mask_token", "embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"];

/// Outside the blocks: beginnings and what becomes of them.
const AROUND: [(&str, &str); 7] = [
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.register_tokens", "register_tokens"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("layernorm.", "norm."),
    ("encoder.layer.", "blocks."),
    ("layers.", "blocks."),
];

/// Inside a block. The halves of a gated MLP stand in the same order everywhere: first the one that passes through SiLU.
const INSIDE: [(&str, &str); 23] = [
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("attention.attention.query.", "attn.qkv.0."),
    ("attention.attention.key.", "attn.qkv.1."),
    ("attention.attention.value.", "attn.qkv.2."),
    ("attention.q_proj.", "attn.qkv.0."),
    ("attention.k_proj.", "attn.qkv.1."),
    ("attention.v_proj.", "attn.qkv.2."),
    ("attention.output.dense.", "attn.proj."),
    ("attention.o_proj.", "attn.proj."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("mlp.weights_in.", "mlp.fc1."),
    ("mlp.weights_out.", "mlp.fc2."),
    ("mlp.gate_proj.", "mlp.fc1.0."),
    ("mlp.up_proj.", "mlp.fc1.1."),
    ("mlp.down_proj.", "mlp.fc2."),
    ("mlp.w12.", "mlp.fc1."),
    ("mlp.w3.", "mlp.fc2."),
    ("mlp.fc1_g.", "mlp.fc1.0."),
    ("mlp.fc1_x.", "mlp.fc1.1."),
];

/// Tensors that timm keeps as one: its name without `weight` or `bias`, and the number of parts.
const JOINED: [(&str, usize); 2] = [("attn.qkv.", 3), ("mlp.fc1.", 2)];

/// Renames a state dict; one that is no Vision Transformer, or that has timm's names already, comes back as it is.
///
/// Of several networks in one file the teacher is taken, as everybody does who trains with one; without a teacher nothing is
/// renamed. Whatever does not fit together (parts of a joined tensor without the others, two tensors for one name) keeps a
/// name that no network has, so that loading lists it.
pub fn renamed(tensors: BTreeMap<String, Tensor>) -> Renamed {
    let Some(wrapper) = wrapper(&tensors) else { return Renamed { tensors, left_out: Vec::new() } };
    let mut left_out = Vec::new();
    let mut renamed = BTreeMap::new();
    for (name, tensor) in tensors {
        match name.strip_prefix(&wrapper) {
            Some(inner) if !LEFT_OUT.contains(&inner) => {
                let known = timm_name(inner);
                let key = if renamed.contains_key(&known) { format!("{known} again") } else { known };
                renamed.insert(key, tensor);
            }
            _ => left_out.push(name),
        }
    }
    tch::no_grad(|| {
        join(&mut renamed);
        place_registers(&mut renamed);
    });
    Renamed { tensors: renamed, left_out }
}

/// What stands before every name of the network.
fn wrapper(tensors: &BTreeMap<String, Tensor>) -> Option<String> {
    let of = |name: &String| KERNELS.iter().find_map(|kernel| Some(name.strip_suffix(kernel)?.to_owned()));
    let mut wrappers: Vec<String> = tensors.keys().filter_map(of).filter(|wrapper| wrapper.is_empty() || wrapper.ends_with('.')).collect();
    if wrappers.len() > 1 {
        wrappers.retain(|wrapper| wrapper.contains("teacher"));
    }
    wrappers.pop().filter(|_| wrappers.is_empty())
}

fn timm_name(name: &str) -> String {
    let name = replaced(name, &AROUND);
    let Some((index, inside)) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else { return name };
    // Training code that shards a network keeps blocks in chunks: blocks.<chunk>.<index among all>.
    match inside.split_once('.').filter(|(second, _)| second.bytes().all(|byte| byte.is_ascii_digit())) {
        Some((index, inside)) => format!("blocks.{index}.{}", replaced(inside, &INSIDE)),
        None => format!("blocks.{index}.{}", replaced(inside, &INSIDE)),
    }
}

fn replaced(name: &str, table: &[(&str, &str)]) -> String {
    let found = table.iter().find_map(|(beginning, becomes)| Some(format!("{becomes}{}", name.strip_prefix(beginning)?)));
    found.unwrap_or_else(|| name.to_owned())
}

/// Query, key and value, one below the other; the halves of a gated MLP likewise.
fn join(tensors: &mut BTreeMap<String, Tensor>) {
    for (layer, parts) in JOINED {
        let first = format!("{layer}0.");
        let firsts: Vec<String> = tensors.keys().filter(|name| name.contains(&first)).cloned().collect();
        for name in firsts {
            let part = |index: usize| name.replace(&first, &format!("{layer}{index}."));
            let found: Vec<&Tensor> = (0..parts).filter_map(|index| tensors.get(&part(index))).collect();
            let alike = found.windows(2).all(|pair| pair[0].size() == pair[1].size() && pair[0].kind() == pair[1].kind());
            if found.len() < parts || !alike || found[0].dim() == 0 {
                continue;
            }
            let joined = Tensor::cat(&found, 0);
            (0..parts).for_each(|index| drop(tensors.remove(&part(index))));
            tensors.insert(name.replace(&first, layer), joined);
        }
    }
}

/// DINOv2 gives class token and patches a position and then puts the registers, which have none, between them. timm keeps
/// the same network with positions for patches alone: the class token's is added to the token.
fn place_registers(tensors: &mut BTreeMap<String, Tensor>) {
    let shape = |name: &str| tensors.get(name).and_then(|tensor| Some((tensor.size3().ok()?, tensor.kind())));
    let (Some(((1, 1, width), kind)), Some(((1, 1.., placed), of_positions))) = (shape("cls_token"), shape("pos_embed")) else { return };
    if !tensors.contains_key("register_tokens") || width != placed || kind != of_positions {
        return;
    }
    let mut take = |name: &str| tensors.remove(name).expect("seen above");
    let (registers, class, positions) = (take("register_tokens"), take("cls_token"), take("pos_embed"));
    tensors.insert("reg_token".to_owned(), registers);
    tensors.insert("cls_token".to_owned(), class + positions.narrow(1, 0, 1));
    tensors.insert("pos_embed".to_owned(), positions.narrow(1, 1, positions.size()[1] - 1).contiguous());
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// Tensors filled with 1, 2, 3, … in the order given.
    fn state(entries: &[(&str, &[i64])]) -> BTreeMap<String, Tensor> {
        let filled = |(index, (name, shape)): (usize, &(&str, &[i64]))| {
            ((*name).to_owned(), Tensor::full(*shape, index as i64 + 1, (Kind::Float, Device::Cpu)))
        };
        entries.iter().enumerate().map(filled).collect()
    }

    /// Name, shape, smallest and largest number of each tensor.
    fn seen(tensors: &BTreeMap<String, Tensor>) -> Vec<(&str, Vec<i64>, f64, f64)> {
        let numbers = |tensor: &Tensor| (tensor.min().double_value(&[]), tensor.max().double_value(&[]));
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.size(), numbers(tensor).0, numbers(tensor).1)).collect()
    }

    fn names(tensors: &BTreeMap<String, Tensor>) -> Vec<&str> {
        tensors.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_vit_of_transformers_joins_query_key_and_value_in_that_order() {
        let renamed = renamed(state(&[
            ("vit.embeddings.cls_token", &[1, 1, 4]),
            ("vit.embeddings.position_embeddings", &[1, 5, 4]),
            ("vit.embeddings.patch_embeddings.projection.weight", &[4, 3, 2, 2]),
            ("vit.encoder.layer.0.attention.attention.query.weight", &[4, 4]),
            ("vit.encoder.layer.0.attention.attention.key.weight", &[4, 4]),
            ("vit.encoder.layer.0.attention.attention.value.weight", &[4, 4]),
            ("vit.encoder.layer.0.attention.output.dense.bias", &[4]),
            ("vit.encoder.layer.0.intermediate.dense.bias", &[8]),
            ("vit.encoder.layer.0.output.dense.bias", &[4]),
            ("vit.encoder.layer.0.layernorm_before.weight", &[4]),
            ("vit.encoder.layer.0.layernorm_after.weight", &[4]),
            ("vit.layernorm.bias", &[4]),
            ("vit.pooler.dense.weight", &[4, 4]),
            ("classifier.weight", &[2, 4]),
        ]));
        let expected = [
            ("blocks.0.attn.proj.bias", vec![4], 7.0, 7.0),
            ("blocks.0.attn.qkv.weight", vec![12, 4], 4.0, 6.0),
            ("blocks.0.mlp.fc1.bias", vec![8], 8.0, 8.0),
            ("blocks.0.mlp.fc2.bias", vec![4], 9.0, 9.0),
            ("blocks.0.norm1.weight", vec![4], 10.0, 10.0),
            ("blocks.0.norm2.weight", vec![4], 11.0, 11.0),
            ("cls_token", vec![1, 1, 4], 1.0, 1.0),
            ("norm.bias", vec![4], 12.0, 12.0),
            ("patch_embed.proj.weight", vec![4, 3, 2, 2], 3.0, 3.0),
            ("pos_embed", vec![1, 5, 4], 2.0, 2.0),
        ];
        assert_eq!(seen(&renamed.tensors), expected);
        let qkv = &renamed.tensors["blocks.0.attn.qkv.weight"];
        assert_eq!([0, 4, 8].map(|row| qkv.double_value(&[row, 0])), [4.0, 5.0, 6.0]);
        assert_eq!(renamed.left_out, ["classifier.weight", "vit.pooler.dense.weight"]);
    }

    #[test]
    fn dinov2_with_registers_gives_the_class_token_its_position() {
        let of_transformers = [
            ("embeddings.cls_token", &[1i64, 1, 4][..]),
            ("embeddings.position_embeddings", &[1, 5, 4]),
            ("embeddings.register_tokens", &[1, 2, 4]),
            ("embeddings.patch_embeddings.projection.weight", &[4, 3, 2, 2]),
            ("encoder.layer.1.layer_scale1.lambda1", &[4]),
            ("encoder.layer.1.mlp.weights_in.weight", &[8, 4]),
            ("encoder.layer.1.mlp.weights_out.weight", &[4, 4]),
            ("encoder.layer.1.norm2.weight", &[4]),
            ("embeddings.mask_token", &[1, 4]),
        ];
        let of_the_training_code = [
            ("teacher.backbone.cls_token", &[1i64, 1, 4][..]),
            ("teacher.backbone.pos_embed", &[1, 5, 4]),
            ("teacher.backbone.register_tokens", &[1, 2, 4]),
            ("teacher.backbone.patch_embed.proj.weight", &[4, 3, 2, 2]),
            ("teacher.backbone.blocks.0.1.ls1.gamma", &[4]),
            ("teacher.backbone.blocks.0.1.mlp.w12.weight", &[8, 4]),
            ("teacher.backbone.blocks.0.1.mlp.w3.weight", &[4, 4]),
            ("teacher.backbone.blocks.0.1.norm2.weight", &[4]),
            ("student.backbone.patch_embed.proj.weight", &[4, 3, 2, 2]),
        ];
        let expected = [
            ("blocks.1.ls1.gamma", vec![4], 5.0, 5.0),
            ("blocks.1.mlp.fc1.weight", vec![8, 4], 6.0, 6.0),
            ("blocks.1.mlp.fc2.weight", vec![4, 4], 7.0, 7.0),
            ("blocks.1.norm2.weight", vec![4], 8.0, 8.0),
            ("cls_token", vec![1, 1, 4], 3.0, 3.0),
            ("patch_embed.proj.weight", vec![4, 3, 2, 2], 4.0, 4.0),
            ("pos_embed", vec![1, 4, 4], 2.0, 2.0),
            ("reg_token", vec![1, 2, 4], 3.0, 3.0),
        ];
        for (entries, left_out) in
            [(of_transformers, "embeddings.mask_token"), (of_the_training_code, "student.backbone.patch_embed.proj.weight")]
        {
            let renamed = renamed(state(&entries));
            assert_eq!(seen(&renamed.tensors), expected);
            assert_eq!(renamed.left_out, [left_out]);
        }
    }

    #[test]
    fn what_is_not_understood_comes_back_as_it_was() {
        let timm = state(&[("cls_token", &[1, 1, 4]), ("patch_embed.proj.weight", &[4, 3, 2, 2]), ("head.weight", &[2, 4])]);
        let another = state(&[("conv1.weight", &[4, 3, 2, 2]), ("encoder.layer.0.output.dense.bias", &[4])]);
        let two = state(&[("a.patch_embed.proj.weight", &[4, 3, 2, 2]), ("b.patch_embed.proj.weight", &[4, 3, 2, 2])]);
        for tensors in [timm, another, two] {
            let before: Vec<String> = tensors.keys().cloned().collect();
            let renamed = renamed(tensors);
            assert_eq!(names(&renamed.tensors), before);
            assert!(renamed.left_out.is_empty());
        }
    }

    #[test]
    fn what_does_not_fit_together_keeps_a_name_of_its_own() {
        let renamed = renamed(state(&[
            ("patch_embed.proj.weight", &[4, 3, 2, 2]),
            ("blocks.0.attn.qkv.0.weight", &[]),
            ("blocks.0.attn.qkv.1.weight", &[]),
            ("blocks.0.attn.qkv.2.weight", &[]),
            ("encoder.layer.1.attention.attention.query.weight", &[4, 4]),
            ("encoder.layer.1.attention.attention.key.weight", &[4, 5]),
            ("encoder.layer.1.attention.attention.value.weight", &[4, 4]),
            ("encoder.layer.2.attention.attention.key.weight", &[4, 4]),
            ("norm.weight", &[4]),
            ("layernorm.weight", &[4]),
            ("cls_token", &[1, 1, 4]),
            ("pos_embed", &[1, 5, 3]),
            ("register_tokens", &[1, 2, 4]),
        ]));
        let expected = [
            "blocks.0.attn.qkv.0.weight",
            "blocks.0.attn.qkv.1.weight",
            "blocks.0.attn.qkv.2.weight",
            "blocks.1.attn.qkv.0.weight",
            "blocks.1.attn.qkv.1.weight",
            "blocks.1.attn.qkv.2.weight",
            "blocks.2.attn.qkv.1.weight",
            "cls_token",
            "norm.weight",
            "norm.weight again",
            "patch_embed.proj.weight",
            "pos_embed",
            "register_tokens",
        ];
        assert_eq!(names(&renamed.tensors), expected);
    }
}
