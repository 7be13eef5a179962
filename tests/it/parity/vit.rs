//! Vision Transformers against timm's and `transformers`': settings told by the case, then every stored tensor.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use wsi::encoders::vit::{Embedding, Mlp, VisionTransformer, VitSettings, names};
use wsi::encoders::{Encoder, EncoderSettings};
use wsi::store::weights;

use super::case::{Case, Limit, Outcome};

/// From this many parameters on a case needs gigabytes and seconds.
const LARGE: u64 = 50_000_000;

/// Whether the case is a Vision Transformer.
pub fn recognised(case: &Case) -> bool {
    !case.hyper()["timm_kwargs"].is_null() || case.spec["source"].as_str().is_some_and(|source| source.contains("ViTModel"))
}

/// Runs the case, the largest only where `WSI_PARITY_LARGE` is set.
pub fn compare(case: &Case) -> Outcome {
    let parameters = case.spec["n_params"].as_u64().unwrap();
    if parameters > LARGE && std::env::var_os("WSI_PARITY_LARGE").is_none() {
        return Outcome::Absent(format!("{} million parameters; set WSI_PARITY_LARGE=1 to run it", parameters / 1_000_000));
    }
    let mut state = names::renamed(case.state().into_iter().collect());
    if !state.left_out.is_empty() {
        case.problem(format!("left out: {}", state.left_out.join(", ")));
    }
    let settings = match if case.hyper()["timm_kwargs"].is_null() { transformers(case, &state.tensors) } else { timm(case.hyper()) } {
        Ok(settings) => settings,
        Err(reason) => {
            case.problem(reason);
            return Outcome::Compared;
        }
    };
    let input = case.input("input");
    let store = VarStore::new(Device::Cpu);
    let mut network = VisionTransformer::new(&store.root(), &settings);
    let classifier = (state.tensors.remove("head.weight"), state.tensors.remove("head.bias"));
    if let Err(error) = weights::load_into(&store, &state.tensors, EncoderSettings::Vit(settings.clone()).unused()) {
        case.problem(format!("{error:#}"));
        return Outcome::Compared;
    }
    drop(state);
    let (start, mut worst) = (Instant::now(), 0.0f64);
    // Frozen last: what `extract` runs must meet the same limits as what `train` runs.
    for frozen in [false, true] {
        if frozen {
            network.freeze();
        }
        let (tokens, embedding) = tch::no_grad(|| (network.tokens(&input), network.embed(&input, false)));
        let prefix = i64::from(settings.class_token) + i64::from(settings.register_tokens);
        let patches = tokens.narrow(1, prefix, tokens.size()[1] - prefix);
        let mut check = |tensor: &str, ours: &dyn Fn() -> Tensor| worst = worst.max(deviation(case, tensor, ours));
        check("cls", &|| tokens.select(1, 0));
        check("reg_tokens", &|| tokens.narrow(1, 1, case.stored("reg_tokens").size()[1]));
        check("patch_tokens_first4", &|| patches.narrow(1, 0, 4));
        check("patch_mean", &|| patches.mean_dim(1, false, tch::Kind::Float));
        match &classifier {
            (Some(weight), bias) => {
                check("pre_logits", &|| embedding.shallow_clone());
                check("pooled", &|| embedding.linear(weight, bias.as_ref()));
            }
            (None, _) => check("pooled", &|| embedding.shallow_clone()),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("golden encoders/{}: within {worst:.1e} of the largest value, four times forward in {seconds:.1} s", case.name);
    Outcome::Compared
}

/// Compares where the case stores it, by every limit the case names; says how far the tensor is, as a share of its largest value.
fn deviation(case: &Case, tensor: &str, ours: &dyn Fn() -> Tensor) -> f64 {
    if !case.has(tensor) {
        return 0.0;
    }
    let ours = ours();
    case.compare(tensor, &ours, Limit::RelativeMax(case.tolerance("/rel_max").unwrap()));
    case.compare(tensor, &ours, Limit::Cosine(case.tolerance("/cosine_min").unwrap()));
    let theirs = case.stored(tensor);
    if ours.size() == theirs.size() { ((ours - &theirs).abs().max() / theirs.abs().max()).double_value(&[]) } else { f64::INFINITY }
}

/// The settings behind timm's constructor arguments; an argument that is not understood is an error.
fn timm(hyper: &Value) -> Result<VitSettings, String> {
    let (embed_dim, depth, heads, patch_px) = match hyper["timm_model"].as_str().unwrap() {
        "VisionTransformer" => (768, 12, 12, 16),
        "vit_small_patch16_224" => (384, 12, 6, 16),
        "vit_base_patch16_224" => (768, 12, 12, 16),
        "vit_large_patch16_224" => (1024, 24, 16, 16),
        "vit_huge_patch14_224" => (1280, 32, 16, 14),
        "vit_giant_patch14_224" => (1408, 40, 16, 14),
        other => return Err(format!("timm's model '{other}' is not known here")),
    };
    let mut settings =
        VitSettings { embed_dim, depth, heads, patch_px, norm_epsilon: hyper["norm_eps"].as_f64().unwrap(), ..VitSettings::default() };
    for (argument, value) in hyper["timm_kwargs"].as_object().unwrap() {
        let count = || value.as_u64().map(|count| count as u32).ok_or_else(|| format!("timm's argument {argument} is {value}"));
        match (argument.as_str(), value.as_str()) {
            ("img_size", _) => settings.image_px = count()?,
            ("patch_size", _) => settings.patch_px = count()?,
            ("embed_dim", _) => settings.embed_dim = count()?,
            ("depth", _) => settings.depth = count()?,
            ("num_heads", _) => settings.heads = count()?,
            ("reg_tokens", _) => settings.register_tokens = count()?,
            ("init_values", _) => settings.layer_scale = value.is_number(),
            ("mlp_ratio", _) => settings.mlp_ratio = value.as_f64().unwrap(),
            ("dynamic_img_size", _) => settings.dynamic_image_px = value.as_bool().unwrap(),
            ("no_embed_class", _) => settings.no_embed_class = value.as_bool().unwrap(),
            ("mlp_layer", Some(layer)) if layer.contains("GluMlp") && layer.contains("SiLU") && layer.contains("gate_last=False") => {
                settings.mlp = Mlp::Swiglu;
            }
            ("act_layer", Some("SiLU")) if hyper["timm_kwargs"]["mlp_layer"].is_string() => {}
            ("global_pool", Some("avg")) => (settings.embedding, settings.fc_norm) = (Embedding::Mean, true),
            ("global_pool", Some("token" | "")) => {}
            ("num_classes", _) => {}
            _ => return Err(format!("timm's argument {argument} = {value} is not known here")),
        }
    }
    match hyper["embedding"].as_str().unwrap() {
        "output of the model" => {}
        "concat(class token, mean of patch tokens)" => settings.embedding = Embedding::ClsMean,
        other => return Err(format!("the embedding '{other}' is not known here")),
    }
    let prefix = u64::from(settings.class_token) + u64::from(settings.register_tokens);
    if hyper["num_prefix_tokens"] != prefix {
        return Err(format!("{} tokens in front instead of {prefix}", hyper["num_prefix_tokens"]));
    }
    Ok(settings)
}

/// The settings of a ViT of `transformers`; patch and image follow from the shapes of its weights, here by timm's names.
fn transformers(case: &Case, state: &BTreeMap<String, Tensor>) -> Result<VitSettings, String> {
    let hyper = case.hyper();
    let number = |name: &str| hyper[name].as_u64().unwrap() as u32;
    if hyper["act"] != "gelu (erf)" || hyper["embedding"] != "last_hidden_state[:,0]" {
        return Err(format!("act = {}, embedding = {} are not known here", hyper["act"], hyper["embedding"]));
    }
    let patch_px = state["patch_embed.proj.weight"].size()[2];
    let patches = state["pos_embed"].size()[1] - 1;
    Ok(VitSettings {
        embed_dim: number("hidden"),
        depth: number("layers"),
        heads: number("heads"),
        mlp_ratio: f64::from(number("intermediate")) / f64::from(number("hidden")),
        patch_px: patch_px as u32,
        image_px: (patches.isqrt() * patch_px) as u32,
        norm_epsilon: hyper["layer_norm_eps"].as_f64().unwrap(),
        ..VitSettings::default()
    })
}
