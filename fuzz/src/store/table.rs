//! Of the tables the reading of numbers alone.

#[path = "../../../src/store/table/number.rs"]
mod number;
pub(crate) use number::number;
