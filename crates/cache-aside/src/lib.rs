#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod bus;
pub mod codec;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
