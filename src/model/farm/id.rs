//! What farms call workers, tasks and jobs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::Timestamp;

/// Twelve bytes, written as 24 hexadecimal digits. The first four are seconds since 1970, so that older ids
/// come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 12]);

/// The text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of 24 hexadecimal digits")]
pub struct InvalidObjectId;

impl ObjectId {
    /// A new one.
    pub fn new(now: Timestamp) -> Self {
        let seconds = u32::try_from(now.as_micros() / 1_000_000).unwrap_or_default();
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&fastrand::u64(..).to_be_bytes());
        Self(bytes)
    }

    /// One that was kept as bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// When it was made, to the second.
    pub fn made_at(&self) -> Timestamp {
        let [a, b, c, d, ..] = self.0;
        Timestamp::from_micros(i64::from(u32::from_be_bytes([a, b, c, d])) * 1_000_000)
    }

    /// What is kept.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ObjectId {
    type Err = InvalidObjectId;

    fn from_str(text: &str) -> Result<Self, InvalidObjectId> {
        let text = text.as_bytes();
        if text.len() != 24 {
            return Err(InvalidObjectId);
        }
        let digit = |byte: u8| {
            char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(InvalidObjectId)
        };
        let mut bytes = [0; 12];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
            *byte = digit(pair[0])? * 16 + digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An id that may be absent: `""` when written; absent, `null` or `""` when read.
pub mod optional_id {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::ObjectId;

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(id: &Option<ObjectId>, to: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => to.collect_str(id),
            None => to.serialize_str(""),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is another text.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ObjectId>, D::Error> {
        match Option::<String>::deserialize(from)?.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_id_can_be_written_and_read_back(bytes in any::<[u8; 12]>()) {
            let id = ObjectId(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(ObjectId::from_bytes(id.as_bytes()), Some(id));
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,30}") {
            let hex = text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            prop_assert_eq!(text.parse::<ObjectId>().is_ok(), hex);
        }
    }

    #[test]
    fn older_ids_come_first() {
        let ids = [1u64, 2, 1_800_000_000]
            .map(|second| ObjectId::new(Timestamp::from_micros(second as i64 * 1_000_000)));
        assert!(ids.is_sorted());
        assert_ne!(ObjectId::new(Timestamp::from_micros(0)), ObjectId::new(Timestamp::from_micros(0)));
    }
}
