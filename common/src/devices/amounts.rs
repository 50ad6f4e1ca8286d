//! How an amount is split over the devices of one scope.

use super::order::device_order;
use super::{Demand, Share, Spare};
use crate::agent::{Affinity, Strategy};
use crate::amount::SlotKind;
use std::cmp::Reverse;

/// The finest step in which parts are made equal, in thousandths.
const STEP: i64 = 10;

/// Splits an amount over the devices of a scope; none if they have too little, or only on
/// more devices than may be used.
pub(super) fn split<'a>(
    mut spare: Vec<Spare<'a>>,
    demand: &Demand,
    affinity: Affinity,
) -> Option<Vec<Share<'a>>> {
    if super::total(&spare) < demand.amount {
        return None;
    }
    match (demand.strategy, demand.kind) {
        (Strategy::Fill, _) => {
            device_order(&mut spare, affinity);
            Some(fill(&spare, demand.amount)).filter(|shares| shares.len() <= demand.most)
        }
        (Strategy::Even, SlotKind::Fraction) => even_shares(spare, demand),
        (Strategy::Even, _) => {
            device_order(&mut spare, affinity);
            let mut parts = Vec::with_capacity(spare.len());
            level(&spare, demand.amount, demand.grain, &mut parts);
            Some(shares(&spare, &parts))
        }
    }
}

/// One device after the other. What is left stays a multiple of the grain, as all amounts are.
fn fill<'a>(spare: &[Spare<'a>], amount: i64) -> Vec<Share<'a>> {
    let mut left = amount;
    let mut shares = Vec::new();
    for from in spare {
        if left == 0 {
            break;
        }
        let amount = from.usable.min(left);
        left -= amount;
        shares.push(Share {
            device: from.device,
            amount,
        });
    }
    shares
}

fn shares<'a>(spare: &[Spare<'a>], parts: &[i64]) -> Vec<Share<'a>> {
    spare
        .iter()
        .zip(parts)
        .filter(|(_, amount)| **amount > 0)
        .map(|(from, amount)| Share {
            device: from.device,
            amount: *amount,
        })
        .collect()
}

/// Equal parts in steps. Who has less than an equal part gives all; what the steps do not
/// divide goes to the first ones, a step each.
///
/// `spare` comes with the most usable first and has at least the amount; all amounts are
/// multiples of the step, so a device with more than an equal part has room for one step more.
fn level(spare: &[Spare<'_>], amount: i64, step: i64, parts: &mut Vec<i64>) {
    parts.clear();
    parts.extend(spare.iter().map(|s| s.usable));
    let mut left = amount;
    let mut count = i64::try_from(spare.len()).unwrap_or(i64::MAX);
    let mut equal = 0;
    let mut open = spare.len();
    for least in spare.iter().rev() {
        equal = left / count;
        equal -= equal % step;
        if least.usable > equal {
            break;
        }
        left -= least.usable;
        count -= 1;
        open -= 1;
    }
    let mut over = left - equal * count;
    for part in &mut parts[..open] {
        *part = equal;
        if over > 0 {
            *part += step;
            over -= step;
        }
    }
}

/// How good a run of devices serves an amount; less is better.
type Score = (Reverse<i64>, i64, usize, i64);

/// Equal parts of shared devices: of all runs of neighbours by what they have, the one that
/// gives most, then most equally, then from the fewest devices, then leaving least unused.
fn even_shares<'a>(mut spare: Vec<Spare<'a>>, demand: &Demand) -> Option<Vec<Share<'a>>> {
    let step = demand.grain.min(STEP);
    spare.sort_by(|a, b| (a.usable, a.rank()).cmp(&(b.usable, b.rank())));
    let mut best: Option<(Score, Vec<Share<'a>>)> = None;
    let mut run: Vec<Spare<'a>> = Vec::with_capacity(spare.len());
    let mut parts: Vec<i64> = Vec::with_capacity(spare.len());
    for length in 1..=spare.len().min(demand.most) {
        for neighbours in spare.windows(length) {
            let have = super::total(neighbours);
            if have < demand.amount {
                continue;
            }
            run.clear();
            run.extend_from_slice(neighbours);
            // Stable: among equals the lower index stays first.
            run.sort_by_key(|s| Reverse(s.usable));
            level(&run, demand.amount, step, &mut parts);
            let spread = match (parts.first(), parts.last()) {
                (Some(most), Some(least)) if most - least > step => most - least,
                _ => 0,
            };
            for part in &mut parts {
                *part -= *part % demand.grain;
            }
            let given: i64 = parts.iter().sum();
            let used = parts.iter().filter(|part| **part > 0).count();
            let score = (Reverse(given), spread, used, have - given);
            // Of equal scores the first has the lowest indexes: neighbours that have as
            // much as others further on have the same amounts, and equals lie by index.
            if best.as_ref().is_none_or(|(known, _)| score < *known) {
                best = Some((score, shares(&run, &parts)));
            }
        }
        // More devices cannot do better than all of it in equal parts.
        if let Some(((Reverse(given), 0, ..), _)) = &best
            && *given == demand.amount
        {
            break;
        }
    }
    best.map(|(_, shares)| shares)
}
