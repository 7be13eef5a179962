//! The names that a checkpoint may refer to, and the few things that are made of them.

use anyhow::{Result, bail, ensure};
use safetensors::Dtype;

use super::{ArrayPart, Contents, Storage, TensorPart, Value, shown};

/// Dimensions of a tensor, as libtorch limits them.
const MOST_DIMENSIONS: usize = 64;

/// A name that is understood.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Global {
    /// An ordered dictionary or a counter: a dictionary.
    Dictionary,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
    /// An array, still empty; its attributes fill it.
    NewArray,
    NumpyType,
    /// Bytes from a text.
    Encode,
    /// A call of it makes a plain value that no tensor needs, such as a best accuracy.
    Plain,
}

/// The list of allowed names.
pub(super) fn global<'a>(module: &str, name: &str) -> Result<Value<'a>> {
    let known = match (module, name) {
        ("collections", "OrderedDict" | "Counter") => Global::Dictionary,
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "FloatStorage") => Global::Storage(Dtype::F32),
        ("torch", "DoubleStorage") => Global::Storage(Dtype::F64),
        ("torch", "HalfStorage") => Global::Storage(Dtype::F16),
        ("torch", "BFloat16Storage") => Global::Storage(Dtype::BF16),
        ("torch", "LongStorage") => Global::Storage(Dtype::I64),
        ("torch", "IntStorage") => Global::Storage(Dtype::I32),
        ("torch", "ShortStorage") => Global::Storage(Dtype::I16),
        ("torch", "CharStorage") => Global::Storage(Dtype::I8),
        ("torch", "ByteStorage") => Global::Storage(Dtype::U8),
        ("torch", "BoolStorage") => Global::Storage(Dtype::BOOL),
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::NewArray,
        ("numpy", "dtype") => Global::NumpyType,
        ("_codecs", "encode") => Global::Encode,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Plain,
        ("torch", "Size" | "device") | ("builtins" | "__builtin__", "set" | "frozenset" | "bytearray") => Global::Plain,
        ("numpy", "ndarray") => return Ok(Value::Other),
        ("torch", "float16" | "float32" | "float64" | "bfloat16" | "int64") => return Ok(Value::Other),
        _ => bail!(
            "refers to '{}.{}'; plain data needs no such name, and nothing of a file is executed here. \
             If it is a checkpoint from people you trust, save its state dict alone: torch.save(checkpoint['model'], 'weights.pth')",
            shown(module),
            shown(name)
        ),
    };
    Ok(Value::Global(known))
}

/// `('storage', type, key, location, elements[, no view])`
pub(super) fn storage<'a>(identity: Value<'a>, contents: &Contents<'a>) -> Result<Storage<'a>> {
    if let Value::Tuple(parts) = identity
        && let [Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), _, Value::Int(elements), ref rest @ ..] =
            contents.tuples[parts][..]
        && matches!(rest, [] | [Value::Other])
    {
        ensure!(elements >= 0, "a storage of {elements} elements");
        return Ok(Storage { dtype, key, elements: usize::try_from(elements)? });
    }
    bail!("a storage that is not described as PyTorch describes one")
}

/// What an array is filled with, if that is bytes, row after row: `(version, shape, type, whether columns are dense, values)`.
pub(super) fn array<'a>(state: Value<'a>, contents: &Contents<'a>) -> Result<Option<ArrayPart<'a>>> {
    if let Value::Tuple(parts) = state
        && let [Value::Int(_), Value::Tuple(shape), Value::Uint8, Value::Bool(false), values] = contents.tuples[parts][..]
    {
        return Ok(Some(ArrayPart { shape: sizes(&contents.tuples[shape])?, values }));
    }
    Ok(None)
}

/// A view of `storage`; what it claims is checked against the file later.
pub(super) fn tensor(storage: usize, offset: i64, shape: &[Value], stride: &[Value]) -> Result<TensorPart> {
    ensure!(shape.len() == stride.len() && shape.len() <= MOST_DIMENSIONS, "{} sizes and {} strides", shape.len(), stride.len());
    ensure!(offset >= 0, "a tensor that begins at element {offset}");
    Ok(TensorPart { storage, offset: usize::try_from(offset)?, shape: sizes(shape)?, stride: sizes(stride)? })
}

fn sizes(values: &[Value]) -> Result<Vec<usize>> {
    let size = |value: &Value| match value {
        Value::Int(value) if *value >= 0 => Ok(usize::try_from(*value)?),
        Value::Int(value) => bail!("a size or a stride of {value}"),
        _ => bail!("a size that is no integer"),
    };
    values.iter().map(size).collect()
}
