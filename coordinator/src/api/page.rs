//! Pages of lists: a signed place to go on from.

use super::errors::Failure;
use super::extract::Query;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_common::api::Page;
use ring::hmac;

/// Objects of a page when nothing is said.
const DEFAULT_LIMIT: u64 = 50;
/// Most objects of a page.
const MAX_LIMIT: u64 = 500;
const TAG: usize = 16;

/// Signs cursors. They are good only for the route and filters they came with.
#[derive(Debug)]
pub struct Cursors(hmac::Key);

impl Cursors {
    /// With a secret of this installation.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn tag(&self, list: &str, query: &Query, place: &str) -> hmac::Tag {
        let text = format!("{list}\u{2}{}\u{2}{place}", query.fingerprint());
        hmac::sign(&self.0, text.as_bytes())
    }

    /// A cursor behind `place`.
    #[must_use]
    pub(super) fn make(&self, list: &str, query: &Query, place: &str) -> String {
        let mut bytes = self.tag(list, query, place).as_ref()[..TAG].to_vec();
        bytes.extend_from_slice(place.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place of the cursor of a query, if it has one.
    ///
    /// # Errors
    /// LS-CURSOR.
    pub(super) fn place(&self, list: &str, query: &Query) -> Result<Option<String>, Failure> {
        let wrong = || {
            Failure::new(
                "LS-CURSOR",
                "The cursor is damaged or belongs to another query.",
            )
            .hint("Ask for the first page again, without a cursor.")
        };
        let Some(text) = query.one("cursor")? else {
            return Ok(None);
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let (tag, place) = bytes.split_at_checked(TAG).ok_or_else(wrong)?;
        let place = std::str::from_utf8(place).map_err(|_| wrong())?;
        let good = self.tag(list, query, place);
        if bool::from(subtle::ConstantTimeEq::ct_eq(&good.as_ref()[..TAG], tag)) {
            Ok(Some(place.to_owned()))
        } else {
            Err(wrong())
        }
    }

    /// A page out of a list that is whole in memory and ordered by the texts beside it.
    ///
    /// # Errors
    /// LS-CURSOR, LS-PARAMETER.
    pub(super) fn page<T>(
        &self,
        list: &str,
        query: &Query,
        items: Vec<(String, T)>,
    ) -> Result<Page<T>, Failure> {
        let after = self.place(list, query)?;
        let rest = items.into_iter();
        let rest = rest.filter(|(key, _)| after.as_ref().is_none_or(|a| key > a));
        self.cut(list, query, rest)
    }

    /// A page out of what lies behind the place of the cursor, in order: one more than fits is
    /// enough.
    ///
    /// # Errors
    /// LS-PARAMETER.
    pub(super) fn cut<T>(
        &self,
        list: &str,
        query: &Query,
        rest: impl Iterator<Item = (String, T)>,
    ) -> Result<Page<T>, Failure> {
        let limit = limit(query)?;
        let mut rest = rest.peekable();
        let mut page = Vec::new();
        let mut last = None;
        while page.len() < limit
            && let Some((key, item)) = rest.next()
        {
            page.push(item);
            last = Some(key);
        }
        let more = rest.peek().is_some();
        let next_cursor = last
            .filter(|_| more)
            .map(|key| self.make(list, query, &key));
        Ok(Page {
            items: page,
            next_cursor,
        })
    }
}

/// How many objects a page is to have.
///
/// # Errors
/// LS-PARAMETER.
pub(super) fn limit(query: &Query) -> Result<usize, Failure> {
    let limit = query
        .number("limit", 1..=MAX_LIMIT)?
        .unwrap_or(DEFAULT_LIMIT);
    Ok(usize::try_from(limit).unwrap_or(50))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_neither_repeat_nor_skip_and_cursors_cannot_be_made_up() {
        let cursors = Cursors::new(&[7; 32]);
        let all: Vec<(String, u32)> = (0..5).map(|n| (format!("k{n}"), n)).collect();
        let known = ["limit", "cursor", "state"];
        let mut text = "limit=2".to_owned();
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let query = Query::read(Some(&text), &known).unwrap();
            let page = cursors.page("x", &query, all.clone()).unwrap();
            seen.extend(page.items);
            let Some(next) = page.next_cursor else { break };
            text = format!("limit=2&cursor={next}");
            cursor = next;
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        let mut bad = cursor.clone();
        bad.replace_range(0..1, if bad.starts_with('A') { "B" } else { "A" });
        for text in [
            format!("cursor={bad}"),
            format!("cursor={cursor}&state=x"),
            "cursor=x".to_owned(),
            "cursor=".to_owned(),
        ] {
            let query = Query::read(Some(&text), &known).unwrap();
            assert_eq!(
                cursors.page("x", &query, all.clone()).unwrap_err().code,
                "LS-CURSOR",
                "{text}"
            );
        }
    }
}
