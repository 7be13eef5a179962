//! Random changes of training images, each drawn from a stream of its own sample and epoch, so that no number of workers changes it.

mod colour;
mod resized_crop;
mod small;

pub use colour::ColourSettings;
pub(super) use resized_crop::{Crop, random_resized};
pub(super) use small::crop_flip_rotate;
