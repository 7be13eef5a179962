//! What lies on the glass, one tissue a file: each draws its plan from the slide's random stream and paints it.

pub(super) mod connective;
pub(super) mod lymph_node;
pub(super) mod metastasis;
