//! libtorch's own `c10d`: a store that processes meet at, and Gloo's collectives between them.

use std::ffi::{CString, c_char, c_int, c_void};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::ptr::{NonNull, null, null_mut};
use std::time::Duration;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::{Fault, check};

/// `c10::intrusive_ptr`s of the C++ side.
type RawStore = c_void;
pub(super) type RawGroup = c_void;

unsafe extern "C" {
    fn wsi_store_open(
        host: *const c_char,
        port: u16,
        listener: c_int,
        timeout_ms: i64,
        prefix: *const c_char,
        store: *mut *mut RawStore,
    ) -> Fault;
    fn wsi_store_clone(store: *const RawStore, clone: *mut *mut RawStore) -> Fault;
    fn wsi_store_free(store: *mut RawStore);
    fn wsi_store_set(store: *const RawStore, key: *const c_char, data: *const u8, length: usize) -> Fault;
    fn wsi_store_get(store: *const RawStore, key: *const c_char, timeout_ms: i64, data: *mut *mut u8, length: *mut usize) -> Fault;
    fn wsi_store_add(store: *const RawStore, key: *const c_char, amount: i64, sum: *mut i64) -> Fault;
    fn wsi_gloo_open(
        store: *const RawStore,
        rank: c_int,
        size: c_int,
        host: *const c_char,
        interface: *const c_char,
        timeout_ms: i64,
        group: *mut *mut RawGroup,
    ) -> Fault;
    fn wsi_gloo_free(group: *mut RawGroup);
    fn wsi_gloo_sum(group: *const RawGroup, tensors: *const *mut C_tensor, count: usize) -> Fault;
    fn wsi_gloo_broadcast(group: *const RawGroup, tensors: *const *mut C_tensor, count: usize) -> Fault;
    fn wsi_gloo_gather(group: *const RawGroup, gathered: *mut C_tensor, own: *mut C_tensor) -> Fault;
    fn free(pointer: *mut c_void);
}

/// Keys and values that all processes of a run see: `TCPStore`. Nothing in it is secret or guarded: for a trusted network.
pub struct Store(NonNull<RawStore>);

// SAFETY: every operation of `TCPStore` takes the store's own lock.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Serves a store from this process on a bound port, until the value is dropped. Keys get `prefix` in front.
    ///
    /// # Errors
    /// libtorch's.
    pub fn serve(listener: TcpListener, prefix: &str, timeout: Duration) -> Result<Self, TchError> {
        let port = listener.local_addr()?.port();
        Self::open("127.0.0.1", port, listener.into_raw_fd(), prefix, timeout)
    }

    /// Connects to the store that another process serves, for which it waits up to `timeout`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn connect(host: &str, port: u16, prefix: &str, timeout: Duration) -> Result<Self, TchError> {
        Self::open(host, port, -1, prefix, timeout)
    }

    fn open(host: &str, port: u16, listener: c_int, prefix: &str, timeout: Duration) -> Result<Self, TchError> {
        let (host, prefix) = (text(host)?, text(prefix)?);
        let mut store = null_mut();
        // SAFETY: the texts are terminated and live until the call is over; the listener is ours to give away.
        check(unsafe { wsi_store_open(host.as_ptr(), port, listener, milliseconds(timeout), prefix.as_ptr(), &mut store) })?;
        NonNull::new(store).map(Self).ok_or_else(missing)
    }

    /// The same store over a connection of its own, so that one thread's waiting does not hold up another's.
    ///
    /// # Errors
    /// libtorch's.
    pub fn another(&self) -> Result<Self, TchError> {
        let mut clone = null_mut();
        // SAFETY: the store lives.
        check(unsafe { wsi_store_clone(self.0.as_ptr(), &mut clone) })?;
        NonNull::new(clone).map(Self).ok_or_else(missing)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// The process that serves the store is gone.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), TchError> {
        let key = text(key)?;
        // SAFETY: the store lives, the text is terminated, the bytes are as many as said.
        check(unsafe { wsi_store_set(self.0.as_ptr(), key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// The value of a key, once it is set.
    ///
    /// # Errors
    /// It is not set within `timeout`, or the process that serves the store is gone.
    pub fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, TchError> {
        let key = text(key)?;
        let (mut data, mut length) = (null_mut(), 0);
        // SAFETY: the store lives, the text is terminated.
        check(unsafe { wsi_store_get(self.0.as_ptr(), key.as_ptr(), milliseconds(timeout), &mut data, &mut length) })?;
        // SAFETY: without a fault `data` holds `length` bytes from `malloc`, which nobody else has.
        unsafe {
            let value = std::slice::from_raw_parts(data, length).to_vec();
            free(data.cast());
            Ok(value)
        }
    }

    /// Adds to a counter, which starts at 0, and returns its new value.
    ///
    /// # Errors
    /// The process that serves the store is gone.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64, TchError> {
        let key = text(key)?;
        let mut sum = 0;
        // SAFETY: the store lives, the text is terminated.
        check(unsafe { wsi_store_add(self.0.as_ptr(), key.as_ptr(), amount, &mut sum) })?;
        Ok(sum)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: it came from the C++ side and is freed once.
        unsafe { wsi_store_free(self.0.as_ptr()) }
    }
}

/// By which address of this machine the other processes reach this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A name or number.
    Address(String),
    /// That of a network interface.
    Interface(String),
    /// That of the machine's own name.
    Default,
}

/// Collectives between processes, through Gloo: for dense tensors on a processor. All processes call them in the same order; a call returns
/// when its result is there.
///
/// Their errors: another process has ended or cannot be reached, or does not join within the group's `timeout`.
pub struct Gloo {
    group: NonNull<RawGroup>,
    size: usize,
}

// SAFETY: the group has its own threads and locks; a call only queues work, one at a time in the process, and waits for it.
unsafe impl Send for Gloo {}
// SAFETY: as above.
unsafe impl Sync for Gloo {}

impl Gloo {
    /// Meets the other processes at the store; returns when all are connected.
    ///
    /// # Errors
    /// They do not come within `timeout`, or cannot be reached.
    pub fn open(store: &Store, rank: usize, size: usize, reach: &Reach, timeout: Duration) -> Result<Self, TchError> {
        let (host, interface) = match reach {
            Reach::Address(host) => (Some(text(host)?), None),
            Reach::Interface(name) => (None, Some(text(name)?)),
            Reach::Default => (None, None),
        };
        let pointer = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
        let mut group = null_mut();
        // SAFETY: the store lives; the texts are null or terminated and live until the call is over.
        check(unsafe {
            wsi_gloo_open(
                store.0.as_ptr(),
                rank as c_int,
                size as c_int,
                pointer(&host),
                pointer(&interface),
                milliseconds(timeout),
                &mut group,
            )
        })?;
        let met = Self { group: NonNull::new(group).ok_or_else(missing)?, size };
        // A process that is connected might else leave while another one still connects.
        met.sum(&mut [Tensor::from(1i64)])?;
        Ok(met)
    }

    pub(super) fn raw(&self) -> *const RawGroup {
        self.group.as_ptr()
    }

    /// Each contiguous tensor becomes the sum of those of all processes, the same bits everywhere.
    ///
    /// # Errors
    /// See [`Gloo`].
    pub fn sum(&self, tensors: &mut [Tensor]) -> Result<(), TchError> {
        let pointers: Vec<*mut C_tensor> = tensors.iter_mut().map(Tensor::as_mut_ptr).collect();
        // SAFETY: the tensors live and nobody else touches them until the call is over.
        check(unsafe { wsi_gloo_sum(self.group.as_ptr(), pointers.as_ptr(), pointers.len()) })
    }

    /// Each contiguous tensor becomes that of process 0.
    ///
    /// # Errors
    /// See [`Gloo`].
    pub fn broadcast(&self, tensors: &mut [Tensor]) -> Result<(), TchError> {
        let pointers: Vec<*mut C_tensor> = tensors.iter_mut().map(Tensor::as_mut_ptr).collect();
        // SAFETY: the tensors live and nobody else touches them until the call is over.
        check(unsafe { wsi_gloo_broadcast(self.group.as_ptr(), pointers.as_ptr(), pointers.len()) })
    }

    /// The tensors of all W processes, which have one shape: `[…]` to `[W,…]`. Without gradient.
    ///
    /// # Errors
    /// See [`Gloo`].
    pub fn gather(&self, own: &Tensor) -> Result<Tensor, TchError> {
        let mut own = own.detach().contiguous();
        let mut gathered = Tensor::empty([&[self.size as i64], &own.size()[..]].concat(), (own.kind(), own.device()));
        // SAFETY: both tensors live and nobody else touches them until the call is over.
        check(unsafe { wsi_gloo_gather(self.group.as_ptr(), gathered.as_mut_ptr(), own.as_mut_ptr()) })?;
        Ok(gathered)
    }
}

impl Drop for Gloo {
    fn drop(&mut self) {
        // SAFETY: it came from the C++ side and is freed once.
        unsafe { wsi_gloo_free(self.group.as_ptr()) }
    }
}

fn text(text: &str) -> Result<CString, TchError> {
    CString::new(text).map_err(|_| TchError::Torch(format!("'{text}' holds a byte 0")))
}

fn milliseconds(time: Duration) -> i64 {
    time.as_millis().try_into().unwrap_or(i64::MAX)
}

fn missing() -> TchError {
    TchError::Torch("libtorch gave nothing back".to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// Runs `work` on `size` ranks, each a thread.
    pub(in super::super) fn on_ranks<T: Send>(size: usize, work: impl Fn(usize, &Store, &Gloo) -> T + Sync) -> Vec<T> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _server = Store::serve(listener, "test", SOON).unwrap();
        thread::scope(|scope| {
            let rank = |rank: usize| {
                let work = &work;
                scope.spawn(move || {
                    let store = Store::connect("127.0.0.1", port, "test", SOON).unwrap();
                    let gloo = Gloo::open(&store, rank, size, &Reach::Address("127.0.0.1".into()), SOON).unwrap();
                    work(rank, &store, &gloo)
                })
            };
            let threads: Vec<_> = (0..size).map(rank).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_copies_and_collections_are_those_of_all_ranks() {
        on_ranks(3, |rank, store, gloo| {
            let own = Tensor::from_slice(&[1.0f32, 10.0]) * (rank as f64 + 1.0);
            let mut tensors = [own.copy(), Tensor::from(rank as i64)];
            gloo.sum(&mut tensors).unwrap();
            assert_eq!(Vec::<f32>::try_from(&tensors[0]).unwrap(), [6.0, 60.0]);
            assert_eq!(tensors[1].int64_value(&[]), 3);
            assert_eq!(Vec::<f32>::try_from(gloo.gather(&own).unwrap().select(1, 1)).unwrap(), [10.0, 20.0, 30.0]);
            let mut copied = [own];
            gloo.broadcast(&mut copied).unwrap();
            assert_eq!(copied[0].double_value(&[1]), 10.0);

            store.set(&format!("word/{rank}"), &[rank as u8; 3]).unwrap();
            let other = (rank + 1) % 3;
            assert_eq!(store.another().unwrap().get(&format!("word/{other}"), SOON).unwrap(), [other as u8; 3]);
            store.add("count", 2).unwrap();
        });
    }

    #[test]
    fn a_rank_that_leaves_is_an_error_to_the_others_at_once() {
        let started = std::time::Instant::now();
        let errors = on_ranks(2, |rank, store, gloo| {
            (rank == 0).then(|| {
                assert!(store.get("never", Duration::from_millis(50)).is_err());
                gloo.gather(&Tensor::from(1.0)).unwrap_err().to_string()
            })
        });
        assert!(errors[0].as_ref().is_some_and(|error| !error.is_empty()));
        assert!(started.elapsed() < SOON);
    }
}
