//! What lies on the glass, one tissue a file: each draws its plan from the slide's random stream and paints it.

pub(super) mod adipose;
pub(super) mod breast;
pub(super) mod connective;
pub(super) mod ducts;
pub(super) mod lymph_node;
pub(super) mod metastasis;
