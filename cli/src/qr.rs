//! A picture to scan, in the terminal.

use qrcodegen::{QrCode, QrCodeEcc};

/// Light modules around the picture, so that a camera finds it.
const QUIET: i32 = 2;

/// The text as a picture of half blocks, two rows of it in a line; nothing for a text that is
/// too long. Light modules are drawn, because most terminals are dark.
pub(crate) fn picture(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let around = -QUIET..code.size() + QUIET;
    let is_light = |x: i32, y: i32| !code.get_module(x, y); // outside of it nothing is dark
    let mut lines = String::new();
    for y in around.clone().step_by(2) {
        for x in around.clone() {
            // The last line may have one row only.
            let below = around.contains(&(y + 1)) && is_light(x, y + 1);
            lines.push(match (is_light(x, y), below) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        lines.push('\n');
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_the_code() {
        let text = "otpauth://totp/Longshore:dana?secret=GEZDGNBVGY3TQOJQ";
        let code = QrCode::encode_text(text, QrCodeEcc::Low).unwrap();
        let shown = picture(text).unwrap();
        let rows: Vec<Vec<char>> = shown.lines().map(|line| line.chars().collect()).collect();
        let wide = usize::try_from(code.size() + 2 * QUIET).unwrap();
        assert_eq!(rows.len(), wide.div_ceil(2));
        assert!(rows.iter().all(|row| row.len() == wide));
        for y in 0..code.size() {
            for x in 0..code.size() {
                let line = usize::try_from((y + QUIET) / 2).unwrap();
                let cell = rows[line][usize::try_from(x + QUIET).unwrap()];
                let upper = (y + QUIET) % 2 == 0;
                let light = cell == '█' || cell == if upper { '▀' } else { '▄' };
                assert_eq!(light, !code.get_module(x, y), "{x} {y}");
            }
        }
        assert_eq!(picture(&"x".repeat(4000)), None);
    }
}
