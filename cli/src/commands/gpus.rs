//! `gpus`: every GPU and who holds it.

use crate::app::App;
use crate::client::typed;
use crate::clock;
use crate::error::Failure;
use crate::output::{Table, short_model};
use longshore_common::amount::format_bytes_short;
use longshore_common::api::Device;
use serde_json::Value;

/// Lists them.
pub(crate) async fn run(app: &App) -> Result<u8, Failure> {
    let items = app.list("/devices").await?;
    let out = app.output();
    out.list(&items, "id", || table(&items))?;
    if !app.global.quiet && !out.is_json() {
        let mut free = 0;
        for item in &items {
            let device: Device = typed(item.clone())?;
            free += usize::from(state(&device) == "free");
        }
        match items.len() {
            0 => eprintln!("no node offers a GPU"),
            all => eprintln!("{all} shown, {free} free"),
        }
    }
    Ok(0)
}

pub(super) fn table(items: &[Value]) -> Result<Table, Failure> {
    let mut table = Table::new(&[
        "AGENT", "GPU", "MODEL", "STATE", "HOLDER", "SESSION", "USE", "MEMORY", "TEMP", "LEFT",
    ]);
    for item in items {
        let device: Device = typed(item.clone())?;
        let mut owners: Vec<&str> = device
            .holders
            .iter()
            .map(|holder| holder.owner_name.as_str())
            .collect();
        owners.dedup();
        let sessions: Vec<String> = device
            .holders
            .iter()
            .map(|holder| {
                if holder.amount == "1" {
                    holder.session.clone()
                } else {
                    format!("{} {}", holder.session, holder.amount)
                }
            })
            .collect();
        let left = device
            .holders
            .iter()
            .filter_map(|holder| holder.stop_at)
            .min();
        let memory = match (device.memory_used_bytes, device.memory_bytes) {
            (Some(used), Some(all)) => {
                format!("{}/{}", format_bytes_short(used), format_bytes_short(all))
            }
            (None, Some(all)) => format_bytes_short(all),
            (_, None) => String::new(),
        };
        let holder = if device.holders.is_empty() {
            device.health_detail.clone()
        } else {
            owners.join(", ")
        };
        table.row(vec![
            device.agent_name.clone(),
            device.index.to_string(),
            short_model(&device.model),
            state(&device).to_owned(),
            holder,
            sessions.join(", "),
            device
                .utilization_percent
                .map(|percent| format!("{percent}%"))
                .unwrap_or_default(),
            memory,
            device
                .temperature_celsius
                .map(|degrees| format!("{degrees}C"))
                .unwrap_or_default(),
            left.map(|at| clock::span(at.since(clock::now())))
                .unwrap_or_default(),
        ]);
    }
    Ok(table)
}

fn state(device: &Device) -> &str {
    match (device.health.as_str(), device.holders.as_slice()) {
        ("healthy" | "", []) => "free",
        ("healthy" | "", [one]) if one.amount == device.capacity => "held",
        ("healthy" | "", _) => "shared",
        (health, _) => health,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_screen() {
        let device = |index: u32, health: &str, holders: Value| {
            json!({"id": format!("GPU-{index}"), "index": index, "agent": "agt_x", "agent_name": "gpu01",
                   "slot": "cuda.device", "capacity": "1", "model": "NVIDIA RTX A6000",
                   "memory_bytes": 51539607552_i64, "health": health, "health_detail": if health == "healthy" { "" } else { "XID 79" },
                   "holders": holders})
        };
        let items = [
            device(
                0,
                "healthy",
                json!([{"session": "s-39", "owner_name": "alice", "amount": "1"}]),
            ),
            device(1, "healthy", json!([])),
            device(2, "cordoned", json!([])),
        ];
        assert_eq!(
            table(&items).unwrap().render(true, None),
            "AGENT  GPU  MODEL      STATE     HOLDER  SESSION  USE  MEMORY  TEMP  LEFT\n\
             gpu01  0    RTX A6000  held      alice   s-39          48 GB\n\
             gpu01  1    RTX A6000  free                            48 GB\n\
             gpu01  2    RTX A6000  cordoned  XID 79                48 GB\n"
        );
    }
}
