//! Codes of six digits that change every 30 s (TOTP, RFC 6238: HMAC-SHA-1, 160-bit
//! secret), recovery codes, and the picture that an app scans.

use crate::{Fill, Secret, Sha256, draw};
use longshore_common::time::Timestamp;
use ring::hmac;
use std::fmt;
use std::fmt::Write as _;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

/// Seconds for which one code is shown.
pub const STEP_S: i64 = 30;
/// Milliseconds an enrolment waits for its first code.
pub const PENDING_MS: i64 = 600_000;
/// Milliseconds a challenge after the password waits for a code.
pub const CHALLENGE_MS: i64 = 300_000;
/// How many recovery codes are made.
pub const RECOVERY_CODES: usize = 10;
/// With so many recovery codes left, or fewer, the person is told.
pub const RECOVERY_LOW: usize = 2;

/// How many steps back a refused code is still recognised as an old one, for the audit
/// record: ten minutes, beyond which a clock is not slow but wrong.
const OLD_STEPS: i64 = 20;

/// A shared secret of 160 bits. Prints as a mask; to be stored encrypted.
#[derive(Clone)]
pub struct TotpSecret([u8; 20]);

impl PartialEq for TotpSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TotpSecret {}

impl Drop for TotpSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for TotpSecret {}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::secret::MASK)
    }
}

/// Why a code was refused. Everybody is told the same (`LS-TOTP-INVALID`); the audit
/// record tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// No code of this secret, now or lately.
    #[error("wrong code")]
    Wrong,
    /// A right code of the last ten minutes, but no longer accepted: typed too late, or a
    /// clock is slow.
    #[error("code too old")]
    Old,
    /// A code of a step that was already used, or of one before it.
    #[error("code used before")]
    Replayed,
}

/// The step that `now` lies in; negative before 1970.
#[must_use]
pub const fn step(now: Timestamp) -> i64 {
    now.0.div_euclid(1000).div_euclid(STEP_S)
}

impl TotpSecret {
    /// Draws a secret.
    #[must_use]
    pub fn generate(fill: &mut Fill<'_>) -> Self {
        Self(draw(fill))
    }

    /// A secret that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The bytes to encrypt and store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Base32 (RFC 4648) without padding, 32 characters: what a person types into an app.
    #[must_use]
    pub fn base32(&self) -> Secret {
        Secret::new(data_encoding::BASE32_NOPAD.encode(&self.0))
    }

    /// The address of the "Key Uri Format" that apps read from the picture.
    ///
    /// `issuer` is `secure.totp.issuer`, `account` the person's address. The colon between
    /// them is bare, as in the format; those inside them are escaped.
    #[must_use]
    pub fn uri(&self, issuer: &str, account: &str) -> Secret {
        let (issuer, account) = (escaped(issuer), escaped(account));
        let label = if issuer.is_empty() {
            account
        } else {
            format!("{issuer}:{account}")
        };
        let mut uri = format!("otpauth://totp/{label}?secret={}", self.base32().expose());
        if !issuer.is_empty() {
            let _ = write!(uri, "&issuer={issuer}"); // writing to text cannot fail
        }
        uri.push_str("&algorithm=SHA1&digits=6&period=30");
        Secret::new(uri)
    }

    /// The code of a step: six digits (RFC 4226, 5.3).
    #[must_use]
    pub fn code_at(&self, step: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let digest = tag.as_ref();
        let offset = usize::from(digest.last().copied().unwrap_or(0) & 15);
        let word = digest
            .iter()
            .skip(offset)
            .take(4)
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
    }

    /// Checks a code at `now` against the steps now-1, now, now+1; only a step greater than
    /// `last`, the last one accepted for this person, counts. White space in the code is
    /// ignored. The caller stores the step in the transaction in which it read `last`.
    ///
    /// # Errors
    /// [`CodeError`].
    pub fn accept(&self, now: Timestamp, code: &str, last: Option<i64>) -> Result<i64, CodeError> {
        // Anything longer than a code with blanks between all digits is none.
        let given: String = code
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(7)
            .collect();
        if given.len() != 6 || !given.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CodeError::Wrong);
        }
        let is = |step: i64| bool::from(self.code_at(step).as_bytes().ct_eq(given.as_bytes()));
        let now = step(now);
        let used = |step: i64| last.is_some_and(|last| step <= last);
        // The newest first, and all of them: should two steps have the same code, the
        // older one must not leave the newer for a second use, nor the time tell which.
        let matching: Vec<i64> = (now - 1..=now + 1).rev().filter(|s| is(*s)).collect();
        match matching.iter().find(|step| !used(**step)) {
            Some(step) => Ok(*step),
            None if !matching.is_empty() => Err(CodeError::Replayed),
            None if (now - OLD_STEPS..now - 1).any(is) => Err(CodeError::Old),
            None => Err(CodeError::Wrong),
        }
    }
}

/// Percent-encoding of everything but the unreserved characters of RFC 3986.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to text cannot fail
        }
    }
    out
}

/// Ten recovery codes: what is shown once (four times four characters of base32 with `-`
/// between, 80 random bits each), and what is stored.
#[must_use]
pub fn recovery_codes(fill: &mut Fill<'_>) -> ([Secret; RECOVERY_CODES], [Sha256; RECOVERY_CODES]) {
    let plain: [String; RECOVERY_CODES] =
        std::array::from_fn(|_| data_encoding::BASE32_NOPAD.encode(&draw::<10>(fill)));
    let hashes = std::array::from_fn(|index| Sha256::of(plain[index].as_bytes()));
    let shown = plain.map(|code| {
        let mut text = String::with_capacity(19);
        for (index, c) in code.chars().enumerate() {
            if index > 0 && index % 4 == 0 {
                text.push('-');
            }
            text.push(c);
        }
        Secret::new(text)
    });
    (shown, hashes)
}

/// Which of the unused recovery codes `given` is. Case, white space and dashes do not
/// matter. The caller takes it out in the transaction in which it read `unused`.
#[must_use]
pub fn recover(given: &str, unused: &[Sha256]) -> Option<usize> {
    let code: String = given
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .take(17)
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let base32 = |b: u8| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b);
    if code.len() != 16 || !code.bytes().all(base32) {
        return None;
    }
    let digest = Sha256::of(code.as_bytes());
    // Every stored one is compared, whichever it is.
    unused
        .iter()
        .enumerate()
        .fold(None, |found, (index, hash)| {
            if hash.same(&digest) {
                Some(index)
            } else {
                found
            }
        })
}

/// A QR code of `text` as SVG with a white border of four modules (ISO/IEC 18004), medium
/// error correction, without width and height. `None` for text that fits into none (over
/// 2331 bytes).
#[must_use]
pub fn qr_svg(text: &Secret) -> Option<String> {
    const BORDER: i32 = 4;
    let code = qrcodegen::QrCode::encode_text(text.expose(), qrcodegen::QrCodeEcc::Medium).ok()?;
    let size = code.size() + 2 * BORDER;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            let _ = write!(path, "M{},{}h1v1h-1z", x + BORDER, y + BORDER);
        }
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded;
    use proptest::prelude::*;

    /// The secret of RFC 6238, appendix B.
    fn rfc() -> TotpSecret {
        TotpSecret::from_bytes(*b"12345678901234567890")
    }

    const fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn vectors_of_rfc_4226_and_6238() {
        let hotp = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583",
            "399871", "520489",
        ];
        for (step, code) in (0..).zip(hotp) {
            assert_eq!(rfc().code_at(step), code);
        }
        // The last six of the eight digits there.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(rfc().code_at(step(at(seconds))), code);
        }
    }

    #[test]
    fn the_example_of_the_specification() {
        let secret = rfc();
        assert_eq!(secret.base32().expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(secret.accept(at(59), "287082", None), Ok(1));
        assert_eq!(
            secret.accept(at(60), "287082", Some(1)),
            Err(CodeError::Replayed)
        );
        assert_eq!(secret.accept(at(62), "359152", Some(1)), Ok(2));
        assert_eq!(
            secret.accept(at(62), "755224", Some(2)),
            Err(CodeError::Old)
        );
    }

    #[test]
    fn one_step_either_way_is_accepted_and_no_more() {
        let secret = rfc();
        let now = at(100 * STEP_S);
        for (step, wanted) in [
            (98, Err(CodeError::Old)),
            (99, Ok(99)),
            (100, Ok(100)),
            (101, Ok(101)),
            (102, Err(CodeError::Wrong)),
            (81, Err(CodeError::Old)),
            (79, Err(CodeError::Wrong)),
        ] {
            assert_eq!(secret.accept(now, &secret.code_at(step), None), wanted);
        }
        // A step that was passed over is gone once a later one was used.
        let code = secret.code_at(100);
        assert_eq!(
            secret.accept(now, &code, Some(101)),
            Err(CodeError::Replayed)
        );
        assert_eq!(secret.accept(now, &code, Some(99)), Ok(100));
    }

    #[test]
    fn only_six_digits_are_a_code() {
        let secret = rfc();
        assert_eq!(secret.accept(at(59), " 287 082\u{a0}", None), Ok(1));
        for bad in [
            "", "28708", "2870820", "28708２", "28708a", "-87082", "287082x",
        ] {
            assert_eq!(
                secret.accept(at(59), bad, None),
                Err(CodeError::Wrong),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_address_for_apps() {
        assert_eq!(
            rfc().uri("Long: Shore", "dana@lab.example").expose(),
            "otpauth://totp/Long%3A%20Shore:dana%40lab.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Long%3A%20Shore&algorithm=SHA1&digits=6&period=30"
        );
        assert!(
            rfc()
                .uri("", "a@b")
                .expose()
                .starts_with("otpauth://totp/a%40b?secret=")
        );
        assert_eq!(format!("{:?}", rfc()), "********");
    }

    #[test]
    fn recovery_codes_work_once_each() {
        let (shown, stored) = recovery_codes(&mut seeded(1));
        let mut left = stored.to_vec();
        for (index, code) in shown.iter().enumerate() {
            let text = code.expose();
            assert_eq!(text.len(), 19);
            assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4; 4]);
            assert_eq!(recover(text, &stored), Some(index));
            let typed = text.to_lowercase().replace('-', " ");
            let found = recover(&typed, &left).unwrap();
            left.remove(found);
            assert_eq!(recover(text, &left), None);
        }
        assert!(left.is_empty());
        for bad in [
            "",
            "AAAA-AAAA-AAAA-AAAA",
            "AAAA-AAAA-AAAA-AAA1",
            "é".repeat(8).as_str(),
        ] {
            assert_eq!(recover(bad, &stored), None);
        }
    }

    #[test]
    fn the_picture_is_svg() {
        let svg = qr_svg(&rfc().uri("Longshore", "dana@lab.example")).unwrap();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>"));
        // The three finder patterns alone make 99 dark modules.
        assert!(svg.matches("h1v1h-1z").count() > 99);
        assert_eq!(qr_svg(&Secret::new("x".repeat(3000))), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(code in any::<String>(), ms in any::<i64>(), last in any::<Option<i64>>()) {
            let secret = rfc();
            let _ = secret.accept(Timestamp(ms), &code, last);
            let _ = recover(&code, &[Sha256::ZERO]);
            let uri = secret.uri(&code, &code);
            prop_assert!(uri.expose().is_ascii());
        }

        #[test]
        fn no_step_is_accepted_twice(
            steps in proptest::collection::vec((0_i64..4, -2_i64..=2), 1..60),
        ) {
            let secret = rfc();
            let (mut now, mut last) = (1000, None);
            for (ahead, drift) in steps {
                now += ahead;
                if let Ok(step) = secret.accept(at(now * STEP_S), &secret.code_at(now + drift), last) {
                    prop_assert!(last.is_none_or(|last| step > last));
                    prop_assert!((now - 1..=now + 1).contains(&step));
                    last = Some(step);
                }
            }
        }
    }
}
