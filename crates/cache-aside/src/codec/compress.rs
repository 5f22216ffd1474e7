//! Smaller values, and no bombs: what is whole again is as long as it said, or nothing.

/// The value compressed, if it is smaller then.
#[cfg(feature = "zstd")]
pub(super) fn smaller(value: &[u8]) -> Option<Vec<u8>> {
    // The library's own default level.
    let small = zstd::bulk::compress(value, zstd::DEFAULT_COMPRESSION_LEVEL).ok()?;
    (small.len() < value.len()).then_some(small)
}

/// The value of `length` bytes that these are. No more than that is allocated.
#[cfg(feature = "zstd")]
pub(super) fn whole(small: &[u8], length: usize) -> Option<Vec<u8>> {
    let whole = zstd::bulk::decompress(small, length).ok()?;
    (whole.len() == length).then_some(whole)
}

#[cfg(not(feature = "zstd"))]
pub(super) const fn smaller(_: &[u8]) -> Option<Vec<u8>> {
    None
}

/// Without the library, what another instance compressed cannot be read.
#[cfg(not(feature = "zstd"))]
pub(super) const fn whole(_: &[u8], _: usize) -> Option<Vec<u8>> {
    None
}
