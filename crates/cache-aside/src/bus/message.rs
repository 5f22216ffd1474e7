//! Messages, byte by byte.
//!
//! `BCAB`, format 1, the sender (16), its count (8), its beat (8; zero for none), the number of news (2), then each:
//! its kind (1), key or tag (2 + n), stamp (8, 8; zeros where it is not known).

use buttress_store::Key;

use super::News;
use crate::{codec::Reader, store::Stamp};

const MAGIC: &[u8; 5] = b"BCAB\x01";
/// The most news of a message.
pub(super) const MOST: usize = 1000;

/// Who says it: a random number for each line.
pub(super) type Sender = [u8; 16];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) sender: Sender,
    /// How many messages with news it has sent, this one included.
    pub(super) count: u64,
    /// Zero when it is none.
    pub(super) beat: u64,
    pub(super) news: Vec<News>,
}

impl Message {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.sender);
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.beat.to_be_bytes());
        let news = self.news.iter().filter_map(parts).take(MOST);
        let most = u16::try_from(self.news.len().min(MOST)).unwrap_or(u16::MAX);
        out.extend_from_slice(&most.to_be_bytes());
        for (kind, name, stamp) in news {
            out.push(kind);
            // A key of a cache has far fewer.
            let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&name[..usize::from(length)]);
            let stamp = stamp.unwrap_or(Stamp {
                epoch: 0,
                sequence: 0,
            });
            out.extend_from_slice(&stamp.epoch.to_be_bytes());
            out.extend_from_slice(&stamp.sequence.to_be_bytes());
        }
        out
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return None;
        }
        let (sender, count, beat) = (reader.array()?, reader.u64()?, reader.u64()?);
        let news = (0..reader.u16()?).map(|_| one(&mut reader)).collect();
        let news: Option<_> = news;
        if reader.left() > 0 {
            return None;
        }
        Some(Self {
            sender,
            count,
            beat,
            news: news?,
        })
    }
}

fn one(reader: &mut Reader<'_>) -> Option<News> {
    let kind = reader.u8()?;
    let name = reader.sized()?;
    let stamp = Stamp {
        epoch: reader.u64()?,
        sequence: reader.u64()?,
    };
    let stamp = (stamp.epoch != 0).then_some(stamp);
    let key = || Key::bounded(name, usize::from(u16::MAX)).ok();
    Some(match kind {
        1 => News::Changed(key()?),
        2 => News::Expired(key()?),
        3 => News::Marked { tag: key()?, stamp },
        4 => News::Cleared { stamp },
        _ => return None,
    })
}

fn parts(news: &News) -> Option<(u8, &[u8], Option<Stamp>)> {
    Some(match news {
        News::Changed(key) => (1, key, None),
        News::Expired(key) => (2, key, None),
        News::Marked { tag, stamp } => (3, tag, *stamp),
        News::Cleared { stamp } => (4, &[], *stamp),
        News::Lost(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> Message {
        let key = |name: &str| Key::new(name).unwrap();
        let stamp = Some(Stamp {
            epoch: 5,
            sequence: 6,
        });
        Message {
            sender: [7; 16],
            count: 3,
            beat: 9,
            news: vec![
                News::Changed(key("a")),
                News::Expired(key("b")),
                News::Marked {
                    tag: key("c"),
                    stamp,
                },
                News::Marked {
                    tag: key("c"),
                    stamp: None,
                },
                News::Cleared { stamp },
            ],
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was_and_a_part_of_it_does_not() {
        let whole = message().write();
        assert_eq!(Message::read(&whole), Some(message()));
        for length in 0..whole.len() {
            assert_eq!(Message::read(&whole[..length]), None, "{length}");
        }
        assert_eq!(Message::read(&[&whole[..], b"x"].concat()), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn anybodys_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _message = Message::read(&[&MAGIC[..], &bytes].concat());
            let _message = Message::read(&bytes);
        }
    }
}
