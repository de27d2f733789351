//! Sizes with a unit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes. In text: digits with an optional `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` KiB.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` GiB.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// As an index type; saturates where `usize` is smaller.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Text that is not a size.
#[derive(Debug, thiserror::Error)]
#[error("not a size: {0:?} (write bytes as digits, or with KiB, MiB or GiB)")]
pub struct NotASize(String);

impl FromStr for Bytes {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let error = || NotASize(text.to_owned());
        let (digits, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
            .unwrap_or((text, 0));
        let digits = digits.trim();
        // `u64` would take a sign.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        let number: u64 = digits.parse().map_err(|_| error())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(error)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64 MiB\" or a number of bytes")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Bytes, E> {
                Ok(Bytes(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Bytes, E> {
                u64::try_from(value).map(Bytes).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Bytes, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// 256 cases.
        #[test]
        fn every_size_reads_back(number in any::<u64>(), shift in 0u32..64) {
            for bytes in [Bytes(number), Bytes(number >> shift << shift), Bytes(1 << shift)] {
                prop_assert_eq!(bytes.to_string().parse::<Bytes>().unwrap(), bytes);
            }
        }

        /// 256 cases.
        #[test]
        fn a_text_is_digits_with_a_unit_or_refused(
            text in "(\\PC{0,8}|[ \t]?[+-]?[0-9]{0,21}[ \t.]?([KMGT]?i?B)?)"
        ) {
            let digits = text.trim_end_matches("KiB").trim_end_matches("MiB").trim_end_matches("GiB");
            let unit = match &text[digits.len()..] {
                "" => Some(1),
                "KiB" => Some(1 << 10),
                "MiB" => Some(1 << 20),
                "GiB" => Some(1_u128 << 30),
                _ => None,
            };
            let digits = digits.trim();
            let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
            let number = is_number.then(|| digits.parse::<u128>().unwrap());
            let expected = number.zip(unit).map(|(number, unit)| number * unit);
            let expected = expected.and_then(|all| u64::try_from(all).ok());
            match text.parse::<Bytes>() {
                Ok(bytes) => prop_assert_eq!(Some(bytes.0), expected),
                Err(error) => {
                    prop_assert_eq!(expected, None);
                    let shown = format!("{text:?}");
                    prop_assert!(error.to_string().contains(&shown));
                }
            }
        }
    }

    #[test]
    fn sizes_read_back_as_written() {
        for bytes in [
            Bytes(0),
            Bytes(7),
            Bytes::kib(3),
            Bytes::mib(64),
            Bytes::gib(2),
        ] {
            assert_eq!(bytes.to_string().parse::<Bytes>().unwrap(), bytes);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_text_in_the_message() {
        for text in ["", "12 parsecs", "-1", "+1", "1 +KiB", "99999999999 GiB"] {
            let message = text.parse::<Bytes>().unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        }
    }
}
