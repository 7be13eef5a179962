#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wsi_fuzz::checkpoint(bytes));
