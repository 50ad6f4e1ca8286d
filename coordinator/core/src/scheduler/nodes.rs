//! Agents in the order in which they are tried, so that the first that fits is found
//! without asking each.
//!
//! Candidates of one group stand in buckets by architecture and by the set of accelerator
//! slots they have free: the bucket alone says how many slot types a request would leave
//! unused there. Inside a bucket they are sorted by the group's strategy, in chunks that
//! know the most that any of their members has free of each slot. Amounts lie side by side
//! in memory, so that a search reads few lines of it.

use crate::model::Selection;
use std::cmp::Ordering;

/// Members of a chunk before it is split in two.
const CHUNK: usize = 64;

/// Free amounts: one number per slot in resource order, then containers.
pub(super) type Vector = Box<[i64]>;

/// What the order needs to know of a candidate.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Free amounts.
    pub(super) free: Vector,
    /// Its place among all names.
    pub(super) rank: u32,
}

/// Whether each amount that is asked for is there.
pub(super) fn fits(free: &[i64], request: &[i64]) -> bool {
    free.iter()
        .zip(request)
        .all(|(free, need)| free >= need || *need == 0)
}

fn raise(most: &mut [i64], free: &[i64]) {
    for (most, free) in most.iter_mut().zip(free) {
        *most = (*most).max(*free);
    }
}

/// Sorted members with their free amounts in rows of equal width.
#[derive(Debug, Clone)]
struct Chunk {
    members: Vec<u32>,
    ranks: Vec<u32>,
    free: Vec<i64>,
}

impl Chunk {
    fn row(&self, at: usize, width: usize) -> &[i64] {
        &self.free[at * width..(at + 1) * width]
    }
}

#[derive(Debug, Clone)]
struct Bucket {
    arch: u16,
    /// Accelerator slots of which its members have something free.
    mask: u128,
    chunks: Vec<Chunk>,
    /// Row and rank of each chunk's last member.
    lasts: Vec<i64>,
    last_ranks: Vec<u32>,
    /// The most of each slot in each chunk.
    mosts: Vec<i64>,
}

/// The candidates of one group.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    selection: Selection,
    buckets: Vec<Bucket>,
    accelerators: usize,
    /// Numbers in a row.
    width: usize,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    /// Amounts, as in [`Place::free`].
    pub(super) request: &'a [i64],
    /// Only this architecture.
    pub(super) arch: Option<u16>,
    /// Round-robin: begin behind this rank.
    pub(super) after: Option<u32>,
}

impl Bucket {
    /// Makes what is known of a chunk true again.
    fn recount(&mut self, at: usize, width: usize) {
        let chunk = &self.chunks[at];
        let most = &mut self.mosts[at * width..(at + 1) * width];
        most.fill(0);
        for row in chunk.free.chunks_exact(width) {
            raise(most, row);
        }
        self.recount_last(at, width);
    }

    fn recount_last(&mut self, at: usize, width: usize) {
        let chunk = &self.chunks[at];
        if let Some(last) = chunk.members.len().checked_sub(1) {
            self.lasts[at * width..(at + 1) * width].copy_from_slice(chunk.row(last, width));
            self.last_ranks[at] = chunk.ranks[last];
        }
    }

    fn put_chunk(&mut self, at: usize, chunk: Chunk, width: usize) {
        self.chunks.insert(at, chunk);
        self.last_ranks.insert(at, 0);
        let row = at * width;
        self.lasts.splice(row..row, std::iter::repeat_n(0, width));
        self.mosts.splice(row..row, std::iter::repeat_n(0, width));
        self.recount(at, width);
    }

    fn drop_chunk(&mut self, at: usize, width: usize) {
        self.chunks.remove(at);
        self.last_ranks.remove(at);
        self.lasts.drain(at * width..(at + 1) * width);
        self.mosts.drain(at * width..(at + 1) * width);
    }
}

/// The first index from 0 to `count` at which a sorted question turns false.
fn partition(count: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

impl Nodes {
    pub(super) const fn new(selection: Selection, accelerators: usize, width: usize) -> Self {
        Self {
            selection,
            buckets: Vec::new(),
            accelerators,
            width,
        }
    }

    fn mask(&self, amounts: &[i64]) -> u128 {
        amounts
            .iter()
            .take(self.accelerators.min(128))
            .enumerate()
            .filter(|(_, amount)| **amount > 0)
            .fold(0, |mask, (bit, _)| mask | 1 << bit)
    }

    fn order(&self, a: (&[i64], u32), b: (&[i64], u32)) -> Ordering {
        let slots = self.width - 1;
        let selection = match self.selection {
            Selection::Concentrated if crate::bugs::is(10) => Selection::Dispersed,
            Selection::Dispersed if crate::bugs::is(10) => Selection::Concentrated,
            selection => selection,
        };
        let strategy = match selection {
            Selection::Concentrated => a.0[..slots].cmp(&b.0[..slots]),
            Selection::Dispersed => b.0[..slots].cmp(&a.0[..slots]),
            Selection::RoundRobin => Ordering::Equal,
        };
        strategy.then(a.1.cmp(&b.1))
    }

    /// In which chunk of a bucket, and where in it, a place is or would be.
    fn find(&self, bucket: &Bucket, place: &Place) -> (usize, usize) {
        let (width, wanted) = (self.width, (&*place.free, place.rank));
        let chunk = partition(bucket.chunks.len(), |at| {
            let last = &bucket.lasts[at * width..(at + 1) * width];
            self.order((last, bucket.last_ranks[at]), wanted) == Ordering::Less
        });
        let position = bucket.chunks.get(chunk).map_or(0, |chunk| {
            partition(chunk.members.len(), |at| {
                self.order((chunk.row(at, width), chunk.ranks[at]), wanted) == Ordering::Less
            })
        });
        (chunk, position)
    }

    pub(super) fn insert(&mut self, arch: u16, member: u32, place: &Place) {
        let mask = self.mask(&place.free);
        let width = self.width;
        let at = self
            .buckets
            .iter()
            .position(|b| b.arch == arch && b.mask == mask);
        let at = at.unwrap_or_else(|| {
            self.buckets.push(Bucket {
                arch,
                mask,
                chunks: Vec::new(),
                lasts: Vec::new(),
                last_ranks: Vec::new(),
                mosts: Vec::new(),
            });
            self.buckets.len() - 1
        });
        let (mut index, mut position) = self.find(&self.buckets[at], place);
        let bucket = &mut self.buckets[at];
        if bucket.chunks.is_empty() {
            let chunk = Chunk {
                members: Vec::with_capacity(CHUNK * 2 + 1),
                ranks: Vec::with_capacity(CHUNK * 2 + 1),
                free: Vec::with_capacity((CHUNK * 2 + 1) * width),
            };
            bucket.put_chunk(0, chunk, width);
        } else if index == bucket.chunks.len() {
            index -= 1;
            position = bucket.chunks[index].members.len();
        }
        let chunk = &mut bucket.chunks[index];
        chunk.members.insert(position, member);
        chunk.ranks.insert(position, place.rank);
        let row = position * width;
        let end = chunk.free.len();
        chunk.free.resize(end + width, 0);
        chunk.free.copy_within(row..end, row + width);
        chunk.free[row..row + width].copy_from_slice(&place.free);
        raise(
            &mut bucket.mosts[index * width..(index + 1) * width],
            &place.free,
        );
        if position + 1 == bucket.chunks[index].members.len() {
            bucket.recount_last(index, width);
        }
        if bucket.chunks[index].members.len() > CHUNK * 2 {
            let chunk = &mut bucket.chunks[index];
            let upper = Chunk {
                members: chunk.members.split_off(CHUNK),
                ranks: chunk.ranks.split_off(CHUNK),
                free: chunk.free.split_off(CHUNK * width),
            };
            bucket.recount(index, width);
            bucket.put_chunk(index + 1, upper, width);
        }
    }

    /// Takes a candidate out; its place must still be as when it was put in.
    pub(super) fn remove(&mut self, arch: u16, member: u32, place: &Place) {
        let mask = self.mask(&place.free);
        let width = self.width;
        let Some(at) = self
            .buckets
            .iter()
            .position(|b| b.arch == arch && b.mask == mask)
        else {
            return;
        };
        let (index, position) = self.find(&self.buckets[at], place);
        let bucket = &mut self.buckets[at];
        let Some(chunk) = bucket.chunks.get_mut(index) else {
            return;
        };
        if chunk.members.get(position) != Some(&member) {
            return;
        }
        chunk.members.remove(position);
        chunk.ranks.remove(position);
        chunk.free.drain(position * width..(position + 1) * width);
        let left = chunk.members.len();
        if left == 0 {
            bucket.drop_chunk(index, width);
            if bucket.chunks.is_empty() {
                self.buckets.swap_remove(at);
            }
            return;
        }
        let most = &bucket.mosts[index * width..(index + 1) * width];
        let held_most = most
            .iter()
            .zip(&place.free)
            .any(|(most, free)| most == free && *free > 0);
        if held_most {
            bucket.recount(index, width);
        } else if position == left {
            bucket.recount_last(index, width);
        }
    }

    /// The first candidate in order that fits and of which `take` makes something.
    pub(super) fn first<T>(
        &self,
        wish: Wish<'_>,
        places: &[Place],
        mut take: impl FnMut(u32) -> Option<T>,
    ) -> Option<(u32, T)> {
        let needed = self.mask(wish.request);
        if crate::bugs::is(9) && needed == 0 {
            // As if every bucket left nothing unused: the first that fits in any.
            let all = || self.buckets.iter();
            return self.first_alike(all(), wish.request, places, None, &mut take);
        }
        let fitting =
            |b: &&Bucket| b.mask & needed == needed && wish.arch.is_none_or(|arch| arch == b.arch);
        let mut last = None;
        // Buckets are few: the next smaller number of unneeded types is looked up each time.
        loop {
            let unneeded = self
                .buckets
                .iter()
                .filter(fitting)
                .map(|b| (b.mask & !needed).count_ones())
                .filter(|u| last.is_none_or(|last| *u > last))
                .min()?;
            last = Some(unneeded);
            let alike = || {
                let buckets = self.buckets.iter().filter(fitting);
                buckets.filter(move |b| (b.mask & !needed).count_ones() == unneeded)
            };
            let found = match (self.selection, wish.after) {
                (Selection::RoundRobin, Some(after)) => self
                    .first_alike(
                        alike(),
                        wish.request,
                        places,
                        Some((after, true)),
                        &mut take,
                    )
                    .or_else(|| {
                        let range = Some((after, false));
                        self.first_alike(alike(), wish.request, places, range, &mut take)
                    }),
                _ => self.first_alike(alike(), wish.request, places, None, &mut take),
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// The first in order of buckets that leave equally many slot types unused.
    fn first_alike<'a, T>(
        &'a self,
        buckets: impl Iterator<Item = &'a Bucket>,
        request: &[i64],
        places: &[Place],
        ranks: Option<(u32, bool)>,
        take: &mut impl FnMut(u32) -> Option<T>,
    ) -> Option<(u32, T)> {
        let mut best: Option<(u32, T)> = None;
        for bucket in buckets {
            let found = self.in_bucket(bucket, request, ranks, take);
            let place = |member: u32| {
                let place = &places[member as usize];
                (&*place.free, place.rank)
            };
            if let Some((member, thing)) = found
                && best.as_ref().is_none_or(|(known, _)| {
                    self.order(place(member), place(*known)) == Ordering::Less
                })
            {
                best = Some((member, thing));
            }
        }
        best
    }

    fn in_bucket<T>(
        &self,
        bucket: &Bucket,
        request: &[i64],
        ranks: Option<(u32, bool)>,
        take: &mut impl FnMut(u32) -> Option<T>,
    ) -> Option<(u32, T)> {
        let width = self.width;
        // The fullest come first: all with less of the first slot than is needed are passed over.
        let start = match (self.selection, request.first()) {
            (Selection::Concentrated, Some(need)) if *need > 0 && !crate::bugs::is(10) => {
                partition(bucket.chunks.len(), |at| bucket.lasts[at * width] < *need)
            }
            _ => 0,
        };
        let wanted = |rank: u32| ranks.is_none_or(|(after, behind)| (rank > after) == behind);
        for at in start..bucket.chunks.len() {
            if !fits(&bucket.mosts[at * width..(at + 1) * width], request) {
                continue;
            }
            let chunk = &bucket.chunks[at];
            for (index, row) in chunk.free.chunks_exact(width).enumerate() {
                if fits(row, request)
                    && wanted(chunk.ranks[index])
                    && let Some(thing) = take(chunk.members[index])
                {
                    return Some((chunk.members[index], thing));
                }
            }
        }
        None
    }

    /// All candidates, in no order that means anything.
    pub(super) fn members(&self) -> impl Iterator<Item = u32> {
        self.buckets
            .iter()
            .flat_map(|b| &b.chunks)
            .flat_map(|c| &c.members)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(selection: Selection, free: &[[i64; 3]]) -> (Nodes, Vec<Place>) {
        let places: Vec<Place> = free
            .iter()
            .zip(0u32..)
            .map(|(free, rank)| Place {
                free: Box::new(*free),
                rank,
            })
            .collect();
        let mut nodes = Nodes::new(selection, 1, 3);
        for (place, member) in places.iter().zip(0..) {
            nodes.insert(0, member, place);
        }
        (nodes, places)
    }

    proptest! {
        /// What is found is what a walk over everybody in sorted order finds.
        #[test]
        fn the_first_that_fits_is_the_least_of_those_that_fit(
            free in prop::collection::vec([0i64..4, 0i64..9, 0i64..3], 1..400),
            request in [0i64..4, 0i64..9, 1i64..2],
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..300),
            which in 0usize..3,
            after in 0u32..400,
        ) {
            let selection = Selection::ALL[which];
            let (mut nodes, places) = nodes(selection, &free);
            let mut left: Vec<u32> = (0..u32::try_from(places.len()).unwrap()).collect();
            for index in gone {
                if left.is_empty() { break; }
                let member = left.swap_remove(index.index(left.len()));
                nodes.remove(0, member, &places[member as usize]);
            }
            let mut members: Vec<u32> = nodes.members().collect();
            members.sort_unstable();
            left.sort_unstable();
            prop_assert_eq!(&members, &left);
            let key = |m: &u32| {
                let place = &places[*m as usize];
                let unneeded = u32::from(place.free[0] > 0 && request[0] == 0);
                let turn = selection == Selection::RoundRobin && place.rank <= after;
                let least: Vec<i64> = match selection {
                    Selection::Concentrated => place.free[..2].to_vec(),
                    Selection::Dispersed => place.free[..2].iter().map(|f| -f).collect(),
                    Selection::RoundRobin => vec![],
                };
                (unneeded, turn, least, place.rank)
            };
            let wanted = left.iter().filter(|m| fits(&places[**m as usize].free, &request)).min_by_key(|m| key(m));
            let wish = Wish { request: &request, arch: None, after: Some(after) };
            let found = nodes.first(wish, &places, |_| Some(()));
            prop_assert_eq!(found.map(|(m, ())| m), wanted.copied());
        }
    }
}
