//! What hostile texts of configuration cost to read, to check as a vault and to merge: time of the processor, and memory at its highest. Each text is read
//! in a process of its own, so that no other one's memory is used again unseen.

use super::Order;
use super::report::{Of, Row, Target};
use anyhow::{Context as _, Result, bail};
use longshore_config::work::{self, layers};
use longshore_tests::hostile::{FORMATS, texts};
use rustix::time::{ClockId, clock_gettime};
use std::process::Command;

/// How long any text may take, in milliseconds.
const MOST_MS: f64 = 100.0;
/// How much memory any text may need, in MiB.
const MOST_MIB: f64 = 32.0;

/// Figures of one text.
struct Cost {
    what: &'static str,
    ms: f64,
    mib: f64,
}

pub(super) fn measure(order: &Order) -> Result<Vec<Row>> {
    let program = std::env::current_exe()?;
    let mut rows = Vec::new();
    for format in FORMATS {
        let mut costs: Vec<Cost> = Vec::new();
        for (at, (what, _)) in texts(format).iter().enumerate() {
            if order.quick && at > 1 {
                break;
            }
            let asked = format!("{format}:{at}");
            let told = Command::new(&program).args(["--read", &asked]).output()?;
            if !told.status.success() {
                bail!("{format}, {what}: {}", told.status);
            }
            let text = String::from_utf8_lossy(&told.stdout);
            let mut words = text.split_whitespace();
            let mut figure = || -> Result<f64> {
                let word = words.next().context("a figure is missing")?;
                Ok(word.parse()?)
            };
            costs.push(Cost {
                what,
                ms: figure()?,
                mib: figure()?,
            });
        }
        let row = |unit: &'static str, most: f64, of: fn(&Cost) -> f64| {
            let worst = costs.iter().max_by(|a, b| of(a).total_cmp(&of(b)));
            let worst = worst.context("no text was read")?;
            let row = Row::new(
                "readers",
                &format!("{format}, the worst text"),
                unit,
                vec![of(worst)],
            );
            Ok::<_, anyhow::Error>(row.target(Of::Ours, Target::AtMost(most)).note(worst.what))
        };
        rows.push(row("ms", MOST_MS, |cost| cost.ms)?);
        rows.push(row("MiB", MOST_MIB, |cost| cost.mib)?);
    }
    Ok(rows)
}

/// Reads one text and prints milliseconds and MiB.
pub(super) fn one(asked: &str) -> Result<()> {
    let (format, at) = asked.split_once(':').context("FORMAT:NUMBER")?;
    let format = format.parse().map_err(anyhow::Error::msg)?;
    let at: usize = at.parse()?;
    let (_, text) = texts(format)
        .into_iter()
        .nth(at)
        .context("there is no such text")?;
    // Asks the kernel to forget the highest mark so far: proc(5), clear_refs.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = status("VmRSS:")?;
    let began = processor_ms();
    let checked = work::check(format, text.as_bytes());
    // What is stored in spite of what a check says today is merged as well, but for names: since they
    // have bounds nothing comes in that is beyond them.
    let tree = match &checked {
        Ok(checked) => Some(checked.tree.clone()),
        Err(_) => work::asked(format, text.as_bytes()).ok(),
    };
    let merged = tree.map(|tree| {
        let of = |kind, id| layers::vault(kind, id, 1, 0, &tree).0;
        let merged = layers::merge(vec![
            of(layers::Layer::GroupVault, "a"),
            of(layers::Layer::PersonalVault, "b"),
        ]);
        let canonical = merged.canonical();
        (merged, canonical)
    });
    let ms = processor_ms() - began;
    let most = status("VmHWM:")?;
    drop((checked, merged));
    println!("{ms:.3} {:.3}", (most - before).max(0.0) / 1024.0);
    Ok(())
}

/// What this process has had of the processor: others that run beside it do not count.
fn processor_ms() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of one process")]
    let (seconds, nanos) = (spent.tv_sec as f64, spent.tv_nsec as f64);
    seconds * 1000.0 + nanos / 1e6
}

/// A figure of this process, in KiB.
fn status(name: &str) -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.context("proc does not say")?.parse()?)
}
