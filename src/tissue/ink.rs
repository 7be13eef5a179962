//! Pen marks and black: colours that neither haematoxylin nor eosin makes.

use super::colour::Hsv;

/// Darker than this, 0–1, a pixel is black, whatever its hue.
const BLACK: f32 = 0.3;

/// Whether a pixel is ink of a green, blue, red or black pen, or the black of a slide's edge.
pub(super) fn is_ink(pixel: Hsv) -> bool {
    is_pen(pixel) || pixel.value < BLACK
}

/// Whether a pixel has the colour of a green, blue or red pen.
///
/// METHOD: fixed bounds in HSV, for pixels of about 8 µm. Haematoxylin and eosin keep to hues from about 230° (blue-violet) to 360°
/// (pink). Blood is red too: it reaches a saturation of 0.77 on the slides seen, and a red pen has 0.85 to 0.96 but for its
/// margin. What is outside these bounds is ink.
pub(super) fn is_pen(pixel: Hsv) -> bool {
    let Hsv { hue, saturation, value } = pixel;
    let green = (75.0..195.0).contains(&hue) && saturation > 0.08;
    let blue = (195.0..225.0).contains(&hue) && saturation > 0.3 || (225.0..240.0).contains(&hue) && saturation > 0.7;
    let red = !(20.0..338.0).contains(&hue) && saturation > 0.82;
    value >= BLACK && (green || blue || red)
}
