//! What stands in for libFuzzer where its targets are run on what is kept, and nothing else: this
//! package is its tests.

/// As libFuzzer's macro of the name, whose crate this one takes the name of in the tests: the target
/// becomes a function of bytes. Text that is none is left out, as there.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: &[u8]| $body:block) => {
        pub(crate) fn run($input: &[u8]) {
            $body
        }
    };
    (|$input:ident: &str| $body:block) => {
        pub(crate) fn run(bytes: &[u8]) {
            if let Ok($input) = std::str::from_utf8(bytes) {
                $body
            }
        }
    };
}
