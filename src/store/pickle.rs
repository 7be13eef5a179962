//! Pickles as data: enough of the format to read a PyTorch state dict, and nothing that could run code.
//!
//! A pickle is a program for a small stack machine. Only the instructions that build plain values are known here; a
//! function is never called: the few names that a state dict refers to are recognised, everything else is refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};

/// A container that the pickle goes on filling after it was put somewhere.
type Shared<T> = Rc<RefCell<Vec<T>>>;

/// A value of a pickle. Lists and dictionaries are shared: an instruction may fill one that is already part of another.
#[derive(Debug, Clone)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(Rc<str>),
    Tuple(Rc<Vec<Value>>),
    List(Shared<Value>),
    Dict(Shared<(Value, Value)>),
    Global(Global),
    Storage(Storage),
    Tensor(Rc<TensorPart>),
}

/// The names that a state dict may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(tch::Kind),
}

/// Numbers in the file, by key.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) kind: tch::Kind,
    pub(super) key: Rc<str>,
    pub(super) elements: usize,
}

/// A tensor: a view of a storage.
#[derive(Debug)]
pub(super) struct TensorPart {
    pub(super) storage: Storage,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

/// Reads one pickle from the front of `bytes`; also says how long it was.
///
/// # Errors
/// A cut pickle, an instruction or a name that is not allowed.
pub(super) fn parse(bytes: &[u8]) -> Result<(Value, usize)> {
    let mut machine = Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = machine.at;
        let instruction = machine.byte()?;
        if instruction == b'.' {
            return Ok((machine.pop()?, machine.at));
        }
        machine.step(instruction).with_context(|| format!("instruction 0x{instruction:02x} at byte {at}"))?;
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl Machine<'_> {
    /// The list of allowed instructions.
    fn step(&mut self, instruction: u8) -> Result<()> {
        match instruction {
            0x80 => {
                let protocol = self.byte()?;
                ensure!(protocol == 2, "protocol {protocol}; torch.save writes 2 unless told otherwise");
            }
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Rc::default())),
            b'}' => self.push(Value::Dict(Rc::default())),
            b']' => self.push(Value::List(Rc::default())),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(i64::from(value)));
            }
            0x8a => {
                let length = self.byte()? as usize;
                self.long(length)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Float);
            }
            b'X' => {
                let length = self.number()? as usize;
                self.text(length)?;
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(Rc::new(items)));
            }
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(instruction - 0x84)).ok_or_else(too_few)?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(Rc::new(items)));
            }
            b'a' => {
                let item = self.pop()?;
                self.list()?.borrow_mut().push(item);
            }
            b'e' => {
                let items = self.since_mark()?;
                self.list()?.borrow_mut().extend(items);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.dict()?.borrow_mut().push((key, value));
            }
            b'u' => {
                let items = self.since_mark()?;
                ensure!(items.len() % 2 == 0, "a key without a value");
                let pairs = items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
                self.dict()?.borrow_mut().extend(pairs);
            }
            b'q' => {
                let index = u32::from(self.byte()?);
                self.remember(index)?;
            }
            b'r' => {
                let index = self.number()?;
                self.remember(index)?;
            }
            b'h' => {
                let index = u32::from(self.byte()?);
                self.recall(index)?;
            }
            b'j' => {
                let index = self.number()?;
                self.recall(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(global(&module, &name)?));
            }
            b'Q' => {
                let identity = self.pop()?;
                self.push(Value::Storage(storage(&identity)?));
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.push(reduce(&function, &arguments)?);
            }
            // Attributes of an object. Only an ordered dictionary has any here (`_metadata`), and they are not wanted.
            b'b' => {
                self.pop()?;
                self.dict().context("attributes of something other than a dictionary")?;
            }
            _ => bail!("not an instruction that a state dict needs"),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len()).ok_or_else(|| anyhow!("the file is cut short"))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn number(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn integer(&mut self, length: usize) -> Result<()> {
        let value = self.take(length)?.iter().rev().fold(0, |value, &byte| value << 8 | i64::from(byte));
        self.push(Value::Int(value));
        Ok(())
    }

    /// Little-endian two's complement of any length up to eight bytes.
    fn long(&mut self, length: usize) -> Result<()> {
        ensure!(length <= 8, "an integer of {length} bytes");
        let bytes = self.take(length)?;
        let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..length].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let text: Rc<str> = std::str::from_utf8(self.take(length)?).context("a text that is not UTF-8")?.into();
        self.push(Value::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| anyhow!("the file is cut short"))?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().ok_or_else(too_few)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or_else(too_few)?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, index: u32) -> Result<()> {
        let value = self.stack.last().ok_or_else(too_few)?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let value = self.memo.get(&index).ok_or_else(|| anyhow!("refers to value {index}, which is not there"))?.clone();
        self.push(value);
        Ok(())
    }

    fn list(&self) -> Result<&Shared<Value>> {
        match self.stack.last() {
            Some(Value::List(list)) => Ok(list),
            _ => bail!("a list was expected"),
        }
    }

    fn dict(&self) -> Result<&Shared<(Value, Value)>> {
        match self.stack.last() {
            Some(Value::Dict(dict)) => Ok(dict),
            _ => bail!("a dictionary was expected"),
        }
    }
}

fn too_few() -> anyhow::Error {
    anyhow!("takes more values than there are")
}

/// The list of allowed names.
fn global(module: &str, name: &str) -> Result<Global> {
    use tch::Kind;
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "FloatStorage") => Global::Storage(Kind::Float),
        ("torch", "DoubleStorage") => Global::Storage(Kind::Double),
        ("torch", "HalfStorage") => Global::Storage(Kind::Half),
        ("torch", "BFloat16Storage") => Global::Storage(Kind::BFloat16),
        ("torch", "LongStorage") => Global::Storage(Kind::Int64),
        ("torch", "IntStorage") => Global::Storage(Kind::Int),
        ("torch", "ShortStorage") => Global::Storage(Kind::Int16),
        ("torch", "CharStorage") => Global::Storage(Kind::Int8),
        ("torch", "ByteStorage") => Global::Storage(Kind::Uint8),
        ("torch", "BoolStorage") => Global::Storage(Kind::Bool),
        _ => bail!("refers to '{module}.{name}'; a state dict needs no such name, and nothing of a file is executed here"),
    })
}

/// `('storage', type, key, location, elements[, view])`
fn storage(identity: &Value) -> Result<Storage> {
    if let Value::Tuple(parts) = identity
        && let [Value::Text(tag), Value::Global(Global::Storage(kind)), Value::Text(key), _, Value::Int(elements), rest @ ..] = &parts[..]
        && &**tag == "storage"
        && matches!(rest, [] | [Value::None])
    {
        return Ok(Storage { kind: *kind, key: key.clone(), elements: usize::try_from(*elements)? });
    }
    bail!("a storage that is not described as PyTorch describes one")
}

/// What the few known functions would have made.
fn reduce(function: &Value, arguments: &Value) -> Result<Value> {
    let Value::Tuple(arguments) = arguments else { bail!("a call without a tuple of arguments") };
    match (function, &arguments[..]) {
        (Value::Global(Global::OrderedDict), []) => Ok(Value::Dict(Rc::default())),
        (Value::Global(Global::RebuildParameter), [tensor @ Value::Tensor(_), ..]) => Ok(tensor.clone()),
        (
            Value::Global(Global::RebuildTensor),
            [Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(stride), ..],
        ) => {
            let (shape, stride) = (integers(shape)?, integers(stride)?);
            Ok(Value::Tensor(Rc::new(TensorPart { storage: storage.clone(), offset: *offset, shape, stride })))
        }
        _ => bail!("calls something with arguments that a state dict never has"),
    }
}

fn integers(values: &[Value]) -> Result<Vec<i64>> {
    values.iter().map(|value| if let Value::Int(value) = value { Ok(*value) } else { bail!("a size that is no integer") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pickle_that_would_run_code_is_refused_by_name() {
        let error = parse(b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00true\x85R.").unwrap_err();
        assert!(format!("{error:#}").contains("'os.system'"), "{error:#}");
    }

    #[test]
    fn an_unknown_instruction_is_refused_by_its_code() {
        let error = parse(b"\x80\x02i").unwrap_err();
        assert!(format!("{error:#}").contains("0x69"), "{error:#}");
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b\x8a\x02\x00\xffu.";
        let (Value::Dict(dict), length) = parse(whole).unwrap() else { panic!() };
        assert_eq!(length, whole.len());
        assert!(matches!(dict.borrow()[..], [(_, Value::Int(1)), (_, Value::Int(-256))]));
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err());
        }
    }
}
