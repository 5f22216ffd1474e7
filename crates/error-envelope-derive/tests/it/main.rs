//! What the derive refuses, at which place, and with which words.

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
