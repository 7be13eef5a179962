//! Networks that turn images into feature vectors.

pub mod efficientnet_lite;

crate::registry! {
    /// Encoders, by the `name` in `[extract.encoder]`.
    pub enum EncoderSettings {
        "efficientnet-lite0" => EfficientNetLite0(efficientnet_lite::EfficientNetLite0Settings),
    } default "efficientnet-lite0"
}
