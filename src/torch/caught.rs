//! libtorch's errors inside code that takes none: tch's usual functions panic where libtorch throws.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

use tch::TchError;

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; what libtorch throws in it on this thread is an error instead of a panic, and nothing is printed. Any other panic goes on.
///
/// # Errors
/// libtorch's.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, TchError> {
    quiet_hook();
    let before = CATCHING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(before);
    outcome.or_else(|panic| match panic.downcast_ref::<String>().and_then(|text| thrown(text)) {
        Some(text) => Err(TchError::Torch(text.to_owned())),
        None => resume_unwind(panic),
    })
}

/// Whether an error says that memory ran out, on a GPU or on the machine.
pub fn is_out_of_memory(error: &TchError) -> bool {
    let text = error.to_string();
    ["out of memory", "can't allocate memory", "_ALLOC_FAILED"].iter().any(|words| text.contains(words))
}

/// libtorch's text in the panic of a tch function, or of an `expect` or `unwrap` on what one returned: a [`TchError`] as `Debug` writes it.
fn thrown(panic: &str) -> Option<&str> {
    panic.split_once(": Torch(\"").map(|(_, text)| text)
}

/// Panics that are caught are not printed.
fn quiet_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            let text = panic.payload().downcast_ref::<String>();
            if !(CATCHING.get() && text.is_some_and(|text| thrown(text).is_some())) {
                usual(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn what_libtorch_throws_is_an_error_and_a_bug_stays_a_panic() {
        let ones = |size: i64| Tensor::ones([size], (Kind::Float, Device::Cpu));
        let error = caught(|| ones(2) + ones(3)).unwrap_err();
        assert!(error.to_string().contains("must match the size") && !is_out_of_memory(&error), "{error}");
        let error = caught(|| Tensor::empty([1 << 40, 1 << 10], (Kind::Float, Device::Cpu))).unwrap_err();
        assert!(is_out_of_memory(&error), "{error}");
        assert!(is_out_of_memory(&TchError::Torch("CUDA out of memory. Tried to allocate 2.00 GiB.".to_owned())));
        let failed = || Tensor::f_empty([1i64 << 40, 1 << 10], (Kind::Float, Device::Cpu));
        let error = caught(|| drop(failed().expect("images of the network's shape"))).unwrap_err();
        assert!(is_out_of_memory(&error), "{error}");
        assert!(catch_unwind(|| drop(caught(|| panic!("a bug")))).is_err());
    }
}
