//! Pickles as data: enough of the format to read a PyTorch state dict or a dictionary of lists and NumPy arrays of bytes, and nothing that
//! could run code.
//!
//! A pickle is a program for a small stack machine. Only the instructions that build plain values are known here; a
//! function is never called: the few names that a checkpoint refers to are recognised, everything else is refused by name.
//!
//! Bounded: each instruction adds at most one value or takes some away, [`MOST_INSTRUCTIONS`] ends what goes on, and [`MOST_TENSORS`] the
//! tensors. Containers
//! lie side by side and name one another by number, so that depth and cycles cost nothing; texts stay in the pickle.

mod allowed;
mod machine;
mod opcodes;

use anyhow::{Context, Result};
use safetensors::Dtype;

use allowed::Global;
use machine::Machine;

/// Values that a pickle may make; checkpoints of the largest encoders have some ten thousand.
const MOST_INSTRUCTIONS: usize = 1 << 22;

/// Tensors that a pickle may make, each of at most 64 sizes and strides.
const MOST_TENSORS: usize = 1 << 16;

/// A value of a pickle. Containers are numbers in the [`Pickle`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Text(&'a str),
    /// Bytes, or a text of Python 2 that is not UTF-8.
    Bytes(&'a [u8]),
    /// Bytes that a file without a type for them holds as a text, one character a byte.
    Latin1(&'a str),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
    Array(usize),
    /// NumPy's type of bytes.
    Uint8,
    /// Plain, and of no use here: nothing, a number with a fraction, a set.
    Other,
}

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    /// The value that it stands for.
    pub(super) root: Value<'a>,
    /// Its length, bytes.
    pub(super) length: usize,
    contents: Contents<'a>,
}

/// All containers, storages, tensors and arrays, each under its number.
#[derive(Debug, Default)]
struct Contents<'a> {
    tuples: Vec<Vec<Value<'a>>>,
    lists: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<Storage<'a>>,
    tensors: Vec<TensorPart>,
    arrays: Vec<Option<ArrayPart<'a>>>,
}

/// Numbers in the file, by key.
#[derive(Debug)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Dtype,
    pub(super) key: &'a str,
    pub(super) elements: usize,
}

/// A tensor: a view of a storage; offset and strides in elements.
#[derive(Debug)]
pub(super) struct TensorPart {
    /// Number of the storage.
    pub(super) storage: usize,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

/// A NumPy array of bytes, its last dimension the densest; what it claims is not checked yet.
#[derive(Debug)]
pub(super) struct ArrayPart<'a> {
    pub(super) shape: Vec<usize>,
    /// Bytes, or a text that stands for them.
    pub(super) values: Value<'a>,
}

impl<'a> Pickle<'a> {
    /// Elements of the list with this number.
    pub(super) fn list(&self, number: usize) -> &[Value<'a>] {
        &self.contents.lists[number]
    }

    /// Entries of the dictionary with this number, in their order; a key may be there twice.
    pub(super) fn dict(&self, number: usize) -> &[(Value<'a>, Value<'a>)] {
        &self.contents.dicts[number]
    }

    /// The tensor with this number.
    pub(super) fn tensor(&self, number: usize) -> &TensorPart {
        &self.contents.tensors[number]
    }

    /// The array with this number; `None` for one that holds no bytes, or lies column after column.
    pub(super) fn array(&self, number: usize) -> Option<&ArrayPart<'a>> {
        self.contents.arrays[number].as_ref()
    }

    /// Every storage that is mentioned, also by what is no tensor of the state dict.
    pub(super) fn storages(&self) -> &[Storage<'a>] {
        &self.contents.storages
    }
}

/// Reads one pickle from the front of `bytes`.
///
/// # Errors
/// A cut pickle; an instruction or a name that is not allowed, named.
pub(super) fn parse(bytes: &[u8]) -> Result<Pickle<'_>> {
    let mut machine = Machine::new(bytes);
    for _ in 0..MOST_INSTRUCTIONS {
        let at = machine.at();
        let instruction = machine.byte()?;
        let context = || format!("instruction {} (0x{instruction:02x}) at byte {at}", opcodes::name(instruction));
        if instruction == opcodes::STOP {
            let (root, contents) = machine.end().with_context(context)?;
            return Ok(Pickle { root, length: at + 1, contents });
        }
        machine.step(instruction).with_context(context)?;
    }
    anyhow::bail!("more than {MOST_INSTRUCTIONS} instructions; no state dict and no data set needs so many")
}

/// A name of the file for a message: on one line, without control characters, not longer than a name is.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 120;
    let mut shown: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(pickle: &[u8]) -> String {
        format!("{:#}", parse(pickle).unwrap_err())
    }

    #[test]
    fn a_pickle_that_would_run_code_is_refused_by_name() {
        let error = refusal(b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00true\x85R.");
        assert!(error.contains("'os.system'") && error.contains("GLOBAL (0x63) at byte 2"), "{error}");
    }

    #[test]
    fn an_instruction_that_makes_objects_is_refused_by_its_name() {
        let error = refusal(b"\x80\x02ios\nsystem\n.");
        assert!(error.contains("INST (0x69)"), "{error}");
        assert!(refusal(b"\x80\x02\xff").contains("0xff"));
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b\x8a\x02\x00\xffu.";
        let pickle = parse(whole).unwrap();
        assert_eq!(pickle.length, whole.len());
        let Value::Dict(dict) = pickle.root else { panic!() };
        assert!(matches!(pickle.dict(dict), [(_, Value::Int(1)), (_, Value::Int(-256))]));
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err());
        }
    }

    #[test]
    fn newer_protocols_are_read_alike() {
        // {'a': (True, 1.5, b'x')}, frames and short texts, remembered without numbers.
        let pickle = b"\x80\x04\x95\x17\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94\x88G\x3f\xf8\x00\x00\x00\x00\x00\x00C\x01x\x87\x94s.";
        let pickle = parse(pickle).unwrap();
        let Value::Dict(dict) = pickle.root else { panic!() };
        assert!(matches!(pickle.dict(dict), [(Value::Text("a"), Value::Tuple(_))]));
    }

    #[test]
    fn names_in_messages_are_short_and_on_one_line() {
        assert_eq!(shown("a\n\u{1b}[31m"), "a\\n\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 121);
    }
}
