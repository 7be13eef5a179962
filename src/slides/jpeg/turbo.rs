//! libjpeg-turbo's decompressor with what its Rust wrapper leaves out: a rectangle of a picture, without the pixels around it.

use std::cell::RefCell;
use std::ffi::{CStr, c_int};

use anyhow::{Result, anyhow, ensure};
use turbojpeg::PixelFormat;
use turbojpeg::raw::{self, tjregion, tjscalingfactor};

/// Width of the blocks that are decoded together, pixels, by the library's number of the subsampling.
const BLOCK_WIDTHS: [u32; 7] = [8, 16, 16, 8, 8, 32, 8];

/// What a stream says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Whether its colours are those of printing: four channels.
    pub(super) printing: bool,
    /// Width of the blocks that are decoded together; `None` for a subsampling that the library has no name for.
    pub(super) block: Option<u32>,
}

/// A rectangle of the shrunk picture, pixels; `left` a multiple of the shrunk block's width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// A decompressor of the library.
pub(super) struct Decompressor {
    handle: raw::tjhandle,
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's decompressor.
pub(super) fn with<T>(work: impl FnOnce(&mut Decompressor) -> Result<T>) -> Result<T> {
    DECOMPRESSOR.with_borrow_mut(|slot| match slot {
        Some(decompressor) => work(decompressor),
        none => work(none.insert(Decompressor::new()?)),
    })
}

impl Decompressor {
    fn new() -> Result<Self> {
        // SAFETY: no precondition; a failure is a null pointer.
        let handle = unsafe { raw::tj3Init(raw::TJINIT_TJINIT_DECOMPRESS as c_int) };
        ensure!(!handle.is_null(), "libjpeg-turbo has no memory left");
        Ok(Self { handle })
    }

    /// Reads a stream's header; `None` for what is no JPEG.
    pub(super) fn header(&mut self, bytes: &[u8]) -> Option<Header> {
        // SAFETY: the handle is alive, and the bytes are as many as is said.
        if unsafe { raw::tj3DecompressHeader(self.handle, bytes.as_ptr(), bytes.len() as raw::size_t) } != 0 {
            return None;
        }
        // SAFETY: the handle is alive; a number that is not known is −1.
        let get = |what: raw::TJPARAM| unsafe { raw::tj3Get(self.handle, what as c_int) };
        let colours = get(raw::TJPARAM_TJPARAM_COLORSPACE);
        let lossless = get(raw::TJPARAM_TJPARAM_LOSSLESS) == 1;
        let block = usize::try_from(get(raw::TJPARAM_TJPARAM_SUBSAMP)).ok().and_then(|subsampling| BLOCK_WIDTHS.get(subsampling).copied());
        Some(Header {
            width: get(raw::TJPARAM_TJPARAM_JPEGWIDTH).try_into().ok()?,
            height: get(raw::TJPARAM_TJPARAM_JPEGHEIGHT).try_into().ok()?,
            printing: [raw::TJCS_TJCS_CMYK, raw::TJCS_TJCS_YCCK].iter().any(|printing| *printing as c_int == colours),
            block: block.filter(|_| !lossless),
        })
    }

    /// Pixels of the picture at 1/`scale` of its size, all of them or those of a region.
    ///
    /// # Errors
    /// What the library says, warnings too.
    pub(super) fn decode(&mut self, bytes: &[u8], scale: u32, region: Region, format: PixelFormat) -> Result<Vec<u8>> {
        let header = self.header(bytes).ok_or_else(|| self.error())?;
        let (width, height) = (header.width.div_ceil(scale), header.height.div_ceil(scale));
        let whole = Region { left: 0, top: 0, width, height };
        let Region { left, top, width, height } = region;
        ensure!(
            width > 0 && height > 0 && left + width <= whole.width && top + height <= whole.height,
            "{region:?} is not inside {whole:?}"
        );
        let pitch = width as usize * format.size();
        let mut pixels = vec![0; pitch * height as usize];
        let crop = if region == whole { [0; 4] } else { [left, top, width, height].map(|side| side as c_int) };
        let crop = tjregion { x: crop[0], y: crop[1], w: crop[2], h: crop[3] };
        // SAFETY: the handle is alive and has read the header of these bytes. The library refuses a scale or a region that it cannot decode,
        // and writes as many rows of `pitch` bytes as the region, which lies inside the picture, has.
        let said = unsafe {
            // A region of another picture would be held against the new scale.
            raw::tj3SetCroppingRegion(self.handle, tjregion { x: 0, y: 0, w: 0, h: 0 })
                | raw::tj3SetScalingFactor(self.handle, tjscalingfactor { num: 1, denom: scale as c_int })
                | raw::tj3SetCroppingRegion(self.handle, crop)
        };
        ensure!(said == 0, self.error());
        // SAFETY: as above.
        let said = unsafe {
            raw::tj3Decompress8(
                self.handle,
                bytes.as_ptr(),
                bytes.len() as raw::size_t,
                pixels.as_mut_ptr(),
                pitch as c_int,
                format as c_int,
            )
        };
        ensure!(said == 0, self.error());
        Ok(pixels)
    }

    fn error(&self) -> anyhow::Error {
        // SAFETY: the handle is alive; the library's text ends with a zero and is copied at once.
        let text = unsafe { CStr::from_ptr(raw::tj3GetErrorStr(self.handle)) };
        anyhow!("libjpeg-turbo: {}", text.to_string_lossy())
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: the handle is alive and nobody else's.
        unsafe { raw::tj3Destroy(self.handle) }
    }
}
