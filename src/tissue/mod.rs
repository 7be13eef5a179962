//! Tissue or background: a mask on a low level of the slide.

pub mod hsv;

crate::registry! {
    /// How tissue is found, by the `name` in `[tile.tissue]`.
    pub enum TissueSettings {
        "hsv" => Hsv(hsv::HsvSettings),
    } default "hsv"
}
