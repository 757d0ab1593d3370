// SPDX-License-Identifier: MPL-2.0

//! Into how many buckets the keys of a table are sorted.

/// A number of buckets. A key belongs to one of each number, and the buckets of a larger number are parts of those of a smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fineness(i64);

impl Fineness {
    /// Enough to keep a bucket small, few enough to hold all in memory.
    pub const FIRST: Self = Self(4096);

    /// Each bucket in about so many parts, a power of two. None where a hash has no bits left for that.
    pub fn finer(self, parts: u64) -> Option<Self> {
        let parts = i64::try_from(parts.checked_next_power_of_two()?).ok()?;
        self.0.checked_mul(parts).map(Self)
    }

    /// The bits of a hash that tell the bucket.
    pub(super) fn mask(self) -> i64 {
        self.0 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finer_buckets_are_parts_of_the_coarser_ones() {
        let finer = Fineness::FIRST.finer(4).unwrap();
        assert_eq!((Fineness::FIRST.mask(), finer.mask()), (0xfff, 0x3fff));
        assert_eq!(Fineness::FIRST.finer(3), Some(finer));
        assert_eq!(Fineness::FIRST.finer(1), Some(Fineness::FIRST));
        assert_eq!(finer.finer(1 << 60), None);
    }
}
