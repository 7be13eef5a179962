//! After a resume: what rank 0 has read from the checkpoint goes to the others, which need no file of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::super::Learner;
use super::super::checkpoint;
use super::super::fit::State;
use super::super::optimizers::Optimizer;
use super::Ranks;

/// Key of what rank 0 tells.
pub(super) const STATE: &str = "state";

/// The kinds of an optimiser's numbers.
const KINDS: [(Kind, &str); 3] = [(Kind::Float, "f32"), (Kind::Double, "f64"), (Kind::Int64, "i64")];

impl Ranks {
    /// Gives every rank the tensors, the optimiser's state and `state` of rank 0. The best epoch's tensors stay with rank 0, which saves them.
    ///
    /// # Errors
    /// Another rank is gone.
    pub fn hand_over(&self, learner: &Learner, optimizer: &mut dyn Optimizer, state: &mut State) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        let shape = |tensor: &Tensor| {
            let kind = KINDS.iter().find(|(kind, _)| *kind == tensor.kind()).map_or("unknown", |(_, name)| name);
            json!({"kind": kind, "size": tensor.size()})
        };
        if self.leads() {
            let tensors: BTreeMap<String, Value> = optimizer.state().iter().map(|(name, tensor)| (name.clone(), shape(tensor))).collect();
            self.tell(STATE, &json!({"note": checkpoint::note(state), "optimizer": tensors}))?;
        }
        let told = self.told_unless_failed(STATE, 0)?;
        self.follow(&learner.tensors())?;
        let unclear = || "rank 0 runs another version of the program";
        let mut tensors = optimizer.state();
        if !self.leads() {
            *state = checkpoint::noted(&told["note"]).with_context(unclear)?;
            let of = |value: &Value| {
                let kind = KINDS.iter().find(|(_, name)| value["kind"] == **name)?.0;
                Some(Tensor::zeros(serde_json::from_value::<Vec<i64>>(value["size"].clone()).ok()?, (kind, learner.variables.device())))
            };
            let named = told["optimizer"].as_object().with_context(unclear)?.iter();
            tensors = named.map(|(name, value)| Some((name.clone(), of(value)?))).collect::<Option<_>>().with_context(unclear)?;
        }
        self.follow(&tensors)?;
        if !self.leads() {
            optimizer.restore(&tensors)?;
        }
        Ok(())
    }
}
