//! The stack machine: what each allowed instruction does.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::allowed::{self, Global};
use super::{Contents, MOST_TENSORS, Value};

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    contents: Contents<'a>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), contents: Contents::default() }
    }

    /// Where the next instruction is.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The value on top of the stack, and all containers.
    pub(super) fn end(mut self) -> Result<(Value<'a>, Contents<'a>)> {
        let root = self.pop()?;
        Ok((root, self.contents))
    }

    /// The list of allowed instructions.
    pub(super) fn step(&mut self, instruction: u8) -> Result<()> {
        match instruction {
            0x80 => {
                let protocol = self.byte()?;
                ensure!((2..=5).contains(&protocol), "protocol {protocol}; torch.save writes 2 unless told otherwise");
            }
            // Frames help to read in pieces; here everything is in memory.
            0x95 => drop(self.array::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Value::Other),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(i64::from(value)));
            }
            0x8a => {
                let length = self.length(1)?;
                self.long(length)?;
            }
            0x8b => {
                let length = self.length(4)?;
                self.long(length)?;
            }
            b'G' => self.skipped(8)?,
            0x8c => {
                let length = self.length(1)?;
                self.text(length)?;
            }
            b'X' => {
                let length = self.length(4)?;
                self.text(length)?;
            }
            // Texts of Python 2, which had no other type for bytes.
            b'U' => {
                let length = self.length(1)?;
                self.text_or_bytes(length)?;
            }
            b'T' => {
                let length = self.length(4)?;
                self.text_or_bytes(length)?;
            }
            0x8d => {
                let length = self.length(8)?;
                self.text(length)?;
            }
            b'C' => {
                let length = self.length(1)?;
                self.bytes(length)?;
            }
            b'B' => {
                let length = self.length(4)?;
                self.bytes(length)?;
            }
            0x8e => {
                let length = self.length(8)?;
                self.bytes(length)?;
            }
            0x96 => {
                let length = self.length(8)?;
                self.skipped(length)?;
            }
            b')' => self.tuple(Vec::new()),
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(instruction - 0x84)).ok_or_else(too_few)?;
                let items = self.stack.split_off(start);
                self.tuple(items);
            }
            b't' => {
                let items = self.since_mark()?;
                self.tuple(items);
            }
            b']' => {
                self.contents.lists.push(Vec::new());
                self.push(Value::List(self.contents.lists.len() - 1));
            }
            b'a' => {
                let item = self.pop()?;
                self.list()?.push(item);
            }
            b'e' => {
                let items = self.since_mark()?;
                self.list()?.extend(items);
            }
            b'}' => self.dictionary(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.dict()?.push((key, value));
            }
            b'u' => {
                let items = self.since_mark()?;
                ensure!(items.len() % 2 == 0, "a key without a value");
                let pairs = items.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                self.dict()?.extend(pairs);
            }
            // Sets: their elements are of no use.
            0x8f => self.push(Value::Other),
            0x90 => {
                self.since_mark()?;
                ensure!(matches!(self.stack.last(), Some(Value::Other)), "a set was expected");
            }
            0x91 => {
                self.since_mark()?;
                self.push(Value::Other);
            }
            b'q' => {
                let index = self.length(1)?;
                self.remember(index)?;
            }
            b'r' => {
                let index = self.length(4)?;
                self.remember(index)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' => {
                let index = self.length(1)?;
                self.recall(index)?;
            }
            b'j' => {
                let index = self.length(4)?;
                self.recall(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(allowed::global(module, name)?);
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else { bail!("a name that is no text") };
                self.push(allowed::global(module, name)?);
            }
            b'Q' => {
                let identity = self.pop()?;
                let storage = allowed::storage(identity, &self.contents)?;
                self.contents.storages.push(storage);
                self.push(Value::Storage(self.contents.storages.len() - 1));
            }
            b'R' => self.reduce()?,
            b'b' => self.attributes()?,
            _ => bail!("not an instruction that a state dict needs; nothing of a file is executed here"),
        }
        Ok(())
    }

    /// Attributes of an object. An array's are what it holds; a dictionary's are its `_metadata`, those of a plain value say how it is laid
    /// out: neither is wanted.
    fn attributes(&mut self) -> Result<()> {
        let state = self.pop()?;
        match self.stack.last() {
            Some(&Value::Array(number)) => self.contents.arrays[number] = allowed::array(state, &self.contents)?,
            Some(Value::Dict(_) | Value::Uint8 | Value::Other) => {}
            _ => bail!("attributes of something other than a dictionary, an array or a plain value"),
        }
        Ok(())
    }

    /// What the few known functions would have made.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Global(function) = function else { bail!("calls something that is no function") };
        let Value::Tuple(arguments) = arguments else { bail!("a call without a tuple of arguments") };
        let arguments = &self.contents.tuples[arguments];
        match (function, &arguments[..]) {
            (Global::Dictionary, []) => self.dictionary(),
            (Global::Dictionary, &[dict @ Value::Dict(_)]) => self.push(dict),
            (Global::Plain, _) => self.push(Value::Other),
            (Global::NumpyType, &[Value::Text("u1" | "|u1"), ..]) => self.push(Value::Uint8),
            (Global::Encode, &[Value::Text(text), Value::Text("latin1")]) => self.push(Value::Latin1(text)),
            (Global::NumpyType | Global::Encode, _) => self.push(Value::Other),
            (Global::NewArray, _) => {
                ensure!(self.contents.arrays.len() < MOST_TENSORS, "more than {MOST_TENSORS} arrays");
                self.contents.arrays.push(None);
                self.push(Value::Array(self.contents.arrays.len() - 1));
            }
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), ..]) => self.push(tensor),
            (Global::RebuildTensor, &[Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(stride), ..]) => {
                let tensor = allowed::tensor(storage, offset, &self.contents.tuples[shape], &self.contents.tuples[stride])?;
                ensure!(self.contents.tensors.len() < MOST_TENSORS, "more than {MOST_TENSORS} tensors; no state dict has so many");
                self.contents.tensors.push(tensor);
                self.push(Value::Tensor(self.contents.tensors.len() - 1));
            }
            _ => bail!("calls {function:?} with arguments that a state dict never has"),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len()).ok_or_else(cut)?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    /// An unsigned number of `width` ≤ 8 bytes.
    fn length(&mut self, width: usize) -> Result<usize> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| cut())
    }

    fn integer(&mut self, width: usize) -> Result<()> {
        let value = self.length(width)?;
        self.push(Value::Int(value as i64));
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
        let text = std::str::from_utf8(self.take(length)?).context("a text that is not UTF-8")?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn text_or_bytes(&mut self, length: usize) -> Result<()> {
        let bytes = self.take(length)?;
        self.push(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text));
        Ok(())
    }

    fn bytes(&mut self, length: usize) -> Result<()> {
        let bytes = self.take(length)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    fn skipped(&mut self, length: usize) -> Result<()> {
        self.take(length)?;
        self.push(Value::Other);
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str> {
        let length = self.bytes[self.at..].iter().position(|&byte| byte == b'\n').ok_or_else(cut)?;
        let line = std::str::from_utf8(self.take(length + 1)?).context("a name that is not UTF-8")?;
        Ok(line.trim_end_matches('\n'))
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        self.stack.pop().ok_or_else(too_few)
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or_else(too_few)?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) {
        self.contents.tuples.push(items);
        self.push(Value::Tuple(self.contents.tuples.len() - 1));
    }

    fn dictionary(&mut self) {
        self.contents.dicts.push(Vec::new());
        self.push(Value::Dict(self.contents.dicts.len() - 1));
    }

    fn remember(&mut self, index: usize) -> Result<()> {
        let value = *self.stack.last().ok_or_else(too_few)?;
        self.memo.insert(u32::try_from(index)?, value);
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<()> {
        let value = self.memo.get(&u32::try_from(index)?);
        let value = *value.ok_or_else(|| anyhow!("refers to value {index}, which is not there"))?;
        self.push(value);
        Ok(())
    }

    fn list(&mut self) -> Result<&mut Vec<Value<'a>>> {
        match self.stack.last() {
            Some(Value::List(number)) => Ok(&mut self.contents.lists[*number]),
            _ => bail!("a list was expected"),
        }
    }

    fn dict(&mut self) -> Result<&mut Vec<(Value<'a>, Value<'a>)>> {
        match self.stack.last() {
            Some(Value::Dict(number)) => Ok(&mut self.contents.dicts[*number]),
            _ => bail!("a dictionary was expected"),
        }
    }
}

fn too_few() -> anyhow::Error {
    anyhow!("takes more values than there are")
}

fn cut() -> anyhow::Error {
    anyhow!("the file is cut short")
}
