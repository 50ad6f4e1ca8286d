//! Dominant shares as exact fractions.
//!
//! A share is the largest of use / capacity over the slots, divided by the user's weight
//! (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011). Rounded shares would order
//! users differently from true ones, so they are compared as they are.

use std::cmp::Ordering;

/// `above / below`, never negative; `below` is positive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    above: i128,
    below: i128,
}

impl Share {
    pub(super) const NONE: Self = Self { above: 0, below: 1 };

    /// Use over capacity, over a weight in thousandths. Slots without capacity are left out.
    pub(super) fn of(used: &[i64], capacity: &[i64], weight_milli: i64) -> Self {
        let weight = i128::from(weight_milli.max(1));
        used.iter()
            .zip(capacity)
            .filter(|(used, capacity)| **used > 0 && **capacity > 0)
            .map(|(used, capacity)| Self {
                above: i128::from(*used) * 1000,
                below: i128::from(*capacity) * weight,
            })
            .max()
            .unwrap_or(Self::NONE)
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Share {}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        match (
            self.above.checked_mul(other.below),
            other.above.checked_mul(self.below),
        ) {
            (Some(left), Some(right)) => left.cmp(&right),
            // Amounts near their bounds: compare as continued fractions, which cannot overflow.
            _ => by_quotients((self.above, self.below), (other.above, other.below)),
        }
    }
}

fn by_quotients(mut a: (i128, i128), mut b: (i128, i128)) -> Ordering {
    loop {
        let order = (a.0 / a.1).cmp(&(b.0 / b.1));
        if order != Ordering::Equal {
            return order;
        }
        let (rest_a, rest_b) = (a.0 % a.1, b.0 % b.1);
        match (rest_a == 0, rest_b == 0) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            // x < y exactly when 1/y < 1/x.
            (false, false) => (a, b) = ((b.1, rest_b), (a.1, rest_a)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slots_without_capacity_do_not_count() {
        assert_eq!(Share::of(&[5, 0], &[0, 9], 1000), Share::NONE);
        assert!(Share::of(&[1, 8], &[2, 9], 1000) > Share::of(&[1, 4], &[2, 9], 1000));
        assert_eq!(Share::of(&[2], &[4], 1000), Share::of(&[4], &[4], 2000));
    }

    proptest! {
        #[test]
        fn quotients_order_as_products_do(
            a in 0i64..1 << 53, b in 1i64..1 << 53, c in 0i64..1 << 53, d in 1i64..1 << 53,
        ) {
            let (a, b, c, d) = (i128::from(a), i128::from(b), i128::from(c), i128::from(d));
            prop_assert_eq!(by_quotients((a, b), (c, d)), (a * d).cmp(&(c * b)));
        }
    }
}
