//! What the parsers stand on.

#[path = "../../src/ground/polygon.rs"]
pub(crate) mod polygon;
#[path = "../../src/ground/reader.rs"]
pub(crate) mod reader;
#[path = "../../src/ground/units.rs"]
pub(crate) mod units;
