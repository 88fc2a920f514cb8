//! Which sidecar a leaf belongs to. All leaves that one join led to share the first part of their serial numbers, so a sidecar is
//! told from others of its identity by the certificate alone, and a list that revokes it is short and needs no record of leaves.
//!
//! A serial number has 20 bytes (RFC 5280, 4.1.2.2): `0x4c`, 8 of the instance, 4 of the origin, 7 that are new in each leaf. All but the
//! first are random or a hash, so that nobody foresees one.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::CertError;

const MARK: u8 = 0x4c;
const INSTANCE: usize = 8;
const ORIGIN: usize = 4;
const BYTES: usize = 20;

/// One sidecar, from its join on: the same through all renewals.
pub type Instance = [u8; INSTANCE];
/// The beginning of the hash of what a sidecar joined by and may join by again. All zero: nothing, its token is used up.
pub type Origin = [u8; ORIGIN];

/// What the leaves of one sidecar have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage {
    /// The sidecar.
    pub instance: Instance,
    /// What it joined by.
    pub origin: Origin,
}

impl Lineage {
    /// A sidecar that joins now; `by` is what it could join by again, such as the id of a join secret.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn begin(by: Option<&str>) -> Result<Self, CertError> {
        let mut instance = Instance::default();
        random(&mut instance)?;
        Ok(Self { instance, origin: by.map(origin).unwrap_or_default() })
    }

    /// A serial number for the next leaf.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn serial(&self) -> Result<Vec<u8>, CertError> {
        let mut serial = vec![MARK];
        serial.extend(self.instance);
        serial.extend(self.origin);
        let known = serial.len();
        serial.resize(BYTES, 0);
        random(&mut serial[known..])?;
        Ok(serial)
    }

    /// What a serial number says. None: another authority made it, or one of an older version.
    pub(crate) fn of_serial(serial: &[u8]) -> Option<Self> {
        let (mark, rest) = serial.split_first()?;
        if *mark != MARK || serial.len() != BYTES {
            return None;
        }
        let (instance, rest) = rest.split_first_chunk()?;
        Some(Self { instance: *instance, origin: *rest.first_chunk()? })
    }
}

/// What stands in the leaves of sidecars that joined by this.
pub fn origin(by: &str) -> Origin {
    let mut origin = Origin::default();
    origin.copy_from_slice(&Sha256::digest(by)[..ORIGIN]);
    origin
}

fn random(bytes: &mut [u8]) -> Result<(), CertError> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| CertError::Malformed("the system has no randomness".to_owned()))
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instance.iter().chain(&self.origin).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is no lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLineage;

impl fmt::Display for InvalidLineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a lineage is {} hex digits", 2 * (INSTANCE + ORIGIN))
    }
}

impl std::error::Error for InvalidLineage {}

impl FromStr for Lineage {
    type Err = InvalidLineage;

    fn from_str(text: &str) -> Result<Self, InvalidLineage> {
        let mut bytes = [0; INSTANCE + ORIGIN];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidLineage);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| InvalidLineage)?;
        }
        let (instance, rest) = bytes.split_first_chunk().ok_or(InvalidLineage)?;
        Ok(Self { instance: *instance, origin: *rest.first_chunk().ok_or(InvalidLineage)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lineage_stands_in_every_serial_number_and_each_of_those_is_another() {
        let one = Lineage::begin(Some("secret-1")).unwrap();
        let (a, b) = (one.serial().unwrap(), one.serial().unwrap());
        assert!(a != b && a.len() == BYTES && a[0] & 0x80 == 0, "positive, RFC 5280 4.1.2.2");
        assert_eq!((Lineage::of_serial(&a), Lineage::of_serial(&b)), (Some(one), Some(one)));
        let other = Lineage::begin(Some("secret-1")).unwrap();
        assert!(one.instance != other.instance && one.origin == other.origin);
        assert_eq!(Lineage::begin(None).unwrap().origin, Origin::default());
        assert_eq!(one.to_string().parse(), Ok(one));
    }

    #[test]
    fn what_is_no_lineage_is_none() {
        for serial in [&[][..], &[MARK], &[MARK; 19], &[MARK; 21], &[1; 20]] {
            assert_eq!(Lineage::of_serial(serial), None);
        }
        for text in ["", "4c", "zz0000000000000000000000", "é00000000000000000000000", "00000000000000000000000000"] {
            assert_eq!(text.parse::<Lineage>(), Err(InvalidLineage), "{text}");
        }
    }
}
