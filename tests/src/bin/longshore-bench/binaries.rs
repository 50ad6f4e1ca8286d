//! Sizes of the stripped programs.

use super::Order;
use super::report::{Of, Row, Target};
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::Command;

/// What is shipped.
const PROGRAMS: [&str; 3] = ["longshore", "longshore-coordinator", "longshore-agent"];
const MB: f64 = 1e6;

pub(super) fn measure(order: &Order) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let mut rows = Vec::new();
    for program in PROGRAMS {
        let path = order.programs.join(program);
        if !path.exists() {
            rows.push(Row::failed(program, "it is not built".to_owned()));
            continue;
        }
        let size = stripped(&path, &dir.path().join(program))?;
        rows.push(
            Row::new("binaries", program, "MB", vec![size / MB])
                .target(Of::Ours, Target::AtMost(15.0)),
        );
    }
    Ok(rows)
}

fn stripped(program: &Path, to: &Path) -> Result<f64> {
    let done = Command::new("strip")
        .arg("-o")
        .arg(to)
        .arg(program)
        .status()
        .context("strip")?;
    if !done.success() {
        bail!("{} could not be stripped", program.display());
    }
    #[expect(clippy::cast_precision_loss, reason = "a size in megabytes")]
    let size = std::fs::metadata(to)?.len() as f64;
    Ok(size)
}
