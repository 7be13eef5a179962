//! A tensor inside a file: where its numbers are, and how to get them out in order.

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, anyhow, ensure};
use safetensors::Dtype;

/// A tensor's place in a file. What it claims was checked against the file when it was made.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// In elements.
    stride: Vec<usize>,
    /// The first number, bytes from the beginning of the file.
    at: u64,
    /// From the first to behind the last number, bytes.
    span: usize,
}

impl Located {
    /// A view of a storage of `elements` numbers that begins at byte `storage_at`; offset and strides in elements.
    ///
    /// # Errors
    /// A view that reaches beyond its storage, or that shows numbers more than once.
    pub(super) fn view(
        dtype: Dtype,
        (storage_at, elements): (u64, usize),
        offset: usize,
        shape: &[usize],
        stride: &[usize],
    ) -> Result<Self> {
        let beyond = || anyhow!("it reaches beyond its storage; the file is damaged");
        let count = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side)).ok_or_else(beyond)?;
        let last =
            shape.iter().zip(stride).try_fold(0usize, |sum, (side, step)| side.saturating_sub(1).checked_mul(*step)?.checked_add(sum));
        let reach = if count == 0 { 0 } else { last.and_then(|last| last.checked_add(1)).ok_or_else(beyond)? };
        ensure!(offset.checked_add(reach).is_some_and(|end| end <= elements), beyond());
        ensure!(count <= elements, "its {count} numbers are views of {elements}; save it with .contiguous() first");
        let size = dtype.bitsize() / 8;
        Ok(Self { dtype, shape: shape.to_vec(), stride: stride.to_vec(), at: storage_at + (offset * size) as u64, span: reach * size })
    }

    /// `numbers` laid out row by row from byte `at` on, `bytes` long.
    pub(super) fn rows(dtype: Dtype, shape: &[usize], at: u64, bytes: usize) -> Self {
        Self { dtype, shape: shape.to_vec(), stride: row_strides(shape), at, span: bytes }
    }

    /// Bytes of the tensor, laid out row by row.
    pub(super) fn size(&self) -> u64 {
        self.shape.iter().map(|&side| side as u64).product::<u64>() * self.dtype.bitsize() as u64 / 8
    }

    /// The tensor's numbers, little-endian, row by row. Memory: its span in the file, and itself if it is not laid out so.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn bytes(&self, source: &mut (impl Read + Seek)) -> Result<Vec<u8>> {
        source.seek(SeekFrom::Start(self.at))?;
        let mut span = vec![0; self.span];
        source.read_exact(&mut span).context("the file is cut short")?;
        let natural = row_strides(&self.shape);
        let in_order = self.shape.iter().zip(self.stride.iter().zip(&natural)).all(|(side, (step, natural))| *side <= 1 || step == natural);
        Ok(if in_order { span } else { self.gathered(&span) })
    }

    fn gathered(&self, span: &[u8]) -> Vec<u8> {
        let (size, count) = (self.dtype.bitsize() / 8, self.shape.iter().product::<usize>());
        let mut bytes = Vec::with_capacity(count * size);
        let (mut index, mut place) = (vec![0; self.shape.len()], 0);
        for _ in 0..count {
            bytes.extend_from_slice(&span[place * size..][..size]);
            // The next index, as an odometer turns: the last dimension first.
            for dimension in (0..index.len()).rev() {
                index[dimension] += 1;
                place += self.stride[dimension];
                if index[dimension] < self.shape[dimension] {
                    break;
                }
                place -= self.shape[dimension] * self.stride[dimension];
                index[dimension] = 0;
            }
        }
        bytes
    }
}

fn row_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides: Vec<usize> =
        shape.iter().rev().scan(1usize, |step, side| Some(std::mem::replace(step, step.saturating_mul(*side)))).collect();
    strides.reverse();
    strides
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(offset: usize, shape: &[usize], stride: &[usize]) -> Result<Vec<u8>> {
        let storage: Vec<u8> = (0..12).collect();
        Located::view(Dtype::U8, (2, 10), offset, shape, stride)?.bytes(&mut Cursor::new(storage))
    }

    #[test]
    fn views_come_out_row_by_row() {
        assert_eq!(read(0, &[2, 3], &[3, 1]).unwrap(), [2, 3, 4, 5, 6, 7]);
        assert_eq!(read(1, &[2, 3], &[1, 2]).unwrap(), [3, 5, 7, 4, 6, 8]);
        assert_eq!(read(4, &[1, 6], &[99, 1]).unwrap(), [6, 7, 8, 9, 10, 11], "the step of a single row means nothing");
        assert_eq!(read(9, &[], &[]).unwrap(), [11]);
        assert!(read(0, &[0, 5], &[5, 1]).unwrap().is_empty());
    }

    #[test]
    fn views_beyond_the_storage_are_refused() {
        assert!(read(5, &[2, 3], &[3, 1]).is_err());
        assert!(read(0, &[2, 2], &[usize::MAX, 1]).is_err());
        assert!(read(0, &[usize::MAX, 2], &[0, 0]).is_err());
        assert!(read(usize::MAX, &[1], &[1]).is_err());
        assert!(read(0, &[100], &[0]).unwrap_err().to_string().contains("contiguous"));
    }
}
