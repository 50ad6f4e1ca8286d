//! The first of what was found: a text of 256 KiB can be wrong in ten thousand places, and nobody
//! reads so many.

/// Most things of one kind that are told of one document; then comes how many more there are.
pub const MAX_TOLD: usize = 100;

/// See the module.
#[derive(Debug)]
pub(super) struct Few<T> {
    told: Vec<T>,
    more: usize,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self {
            told: Vec::new(),
            more: 0,
        }
    }
}

impl<T> Few<T> {
    /// One more; it is not made where it is not told.
    pub(super) fn add(&mut self, make: impl FnOnce() -> T) {
        match self.told.len() < MAX_TOLD {
            true => self.told.push(make()),
            false => self.more += 1,
        }
    }

    /// Adds what somebody else found.
    pub(super) fn join(&mut self, other: Self) {
        self.more += other.more;
        other.told.into_iter().for_each(|one| self.add(|| one));
    }

    /// Whether nothing was found.
    pub(super) const fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// The same things in other words.
    pub(super) fn map<U>(self, say: impl FnMut(T) -> U) -> Few<U> {
        Few {
            told: self.told.into_iter().map(say).collect(),
            more: self.more,
        }
    }

    /// What is told; of the rest one that says `and N more`.
    pub(super) fn all(mut self, rest: impl FnOnce(String) -> T) -> Vec<T> {
        if self.more > 0 {
            self.told.push(rest(format!("and {} more", self.more)));
        }
        self.told
    }
}
