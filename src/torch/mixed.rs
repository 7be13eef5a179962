//! What libtorch's mixed precision asks of layers that it does not know of: those of this room.

use std::ffi::c_int;

use tch::Kind;

unsafe extern "C" {
    fn wsi_mixed() -> c_int;
}

/// The kind that a layer computes in on a processor, on this thread: that of mixed precision, or that of its input.
pub fn layer_kind(input: Kind) -> Kind {
    // SAFETY: takes nothing and reads the state of this thread.
    match unsafe { wsi_mixed() } {
        0 => input,
        1 => Kind::BFloat16,
        _ => Kind::Half,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_mixed_precision_a_layer_computes_in_its_inputs_kind() {
        assert_eq!([Kind::Float, Kind::BFloat16].map(layer_kind), [Kind::Float, Kind::BFloat16]);
    }
}
