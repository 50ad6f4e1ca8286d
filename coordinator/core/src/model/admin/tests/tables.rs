//! Exports, and books against nodes.

use super::super::{
    AdminObject, AdminVerb, ExportKind, Reported, ReportedContainer, Table, export, export_keys,
    usage_audit,
};
use super::{World, from};
use crate::model::Change;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{AgentId, Generation, PolicyId};
use serde_json::json;

#[test]
fn csv_quotes_every_cell_and_defuses_formulas() {
    let table = Table {
        header: vec!["a".to_owned(), "b".to_owned()],
        rows: vec![
            vec!["plain".to_owned(), "say \"hi\", twice".to_owned()],
            vec!["two\r\nlines".to_owned(), String::new()],
            vec!["=1+1".to_owned(), "\tx".to_owned()],
            vec!["-1".to_owned(), "@me +".to_owned()],
        ],
    };
    assert_eq!(
        table.csv(),
        "\"a\",\"b\"\r\n\"plain\",\"say \"\"hi\"\", twice\"\r\n\"two\r\nlines\",\"\"\r\n\"'=1+1\",\"'\tx\"\r\n\"'-1\",\"'@me +\"\r\n"
    );
}

fn whole(world: &World, kind: ExportKind) -> Table {
    export(world.state(), kind, &export_keys(world.state(), kind))
}

#[test]
fn only_the_rows_that_are_asked_for_are_made() {
    let world = World::new();
    for kind in ExportKind::ALL {
        let all = export_keys(world.state(), kind);
        let firsts: Vec<String> = whole(&world, kind)
            .rows
            .iter()
            .map(|r| r[0].clone())
            .collect();
        assert_eq!(firsts, all, "{kind:?}");
        let some = [all[0].clone(), "gone".to_owned()];
        assert_eq!(export(world.state(), kind, &some).rows.len(), 1);
        let none = export(world.state(), kind, &[]);
        assert_eq!(
            (none.rows.len(), none.header),
            (0, whole(&world, kind).header)
        );
    }
}

#[test]
fn tables_have_their_fixed_columns() {
    let mut world = World::new();
    let members = json!({"name": "b", "total_slots": {"cuda.device": "2", "mem": "1g", "cpu": "unlimited"}, "max_pending_session_slots": {"cpu": "4"}});
    let verb = AdminVerb::CreateKeypairPolicy(PolicyId::new(9), Box::new(from(members)));
    world.admin(verb).unwrap();
    for kind in ExportKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        let table = whole(&world, kind);
        assert!(!table.rows.is_empty());
        assert!(
            table.rows.iter().all(|row| row.len() == table.header.len()),
            "{kind:?}"
        );
        let text = table.csv();
        assert_eq!(text.lines().count(), table.rows.len() + 1);
    }
    assert!("sessions".parse::<ExportKind>().is_err());
    let table = whole(&world, ExportKind::KeypairPolicies);
    assert_eq!(
        table.header[..6],
        [
            "name",
            "description",
            "cpu",
            "mem",
            "cuda.device",
            "default_for_unspecified"
        ]
    );
    assert_eq!(
        table.rows[0][..6],
        ["b", "", "", "1073741824", "2", "unlimited"]
    );
    assert_eq!(table.rows[1][..6], ["default", "", "", "", "", "unlimited"]);
    let at = table
        .header
        .iter()
        .position(|h| h == "max_pending_session_slots")
        .unwrap();
    assert_eq!(
        (table.rows[0][at].as_str(), table.rows[1][at].as_str()),
        (r#"{"cpu":"4"}"#, "")
    );
    let users = whole(&world, ExportKind::Users);
    let names: Vec<&str> = users.rows.iter().map(|r| r[2].as_str()).collect();
    assert_eq!(names, ["alice", "bob", "root"]);
    assert_eq!(users.rows[0][7], r#"["default"]"#);
    assert_eq!(users.header.len(), 16);
    let pairs = whole(&world, ExportKind::Keypairs);
    assert_eq!(
        pairs.rows[0][..6],
        [
            "LSalice",
            "alice@lab.example",
            "",
            "active",
            "true",
            "default"
        ]
    );
    assert!(!pairs.csv().contains("secret"));
}

/// What an agent reports that does what the books say.
fn honest(world: &World) -> Reported {
    let agent = AgentId::new(1);
    let sessions = world.state().sessions.values();
    let containers = sessions
        .flat_map(|s| &s.containers)
        .filter(|c| c.agent == agent);
    Reported {
        agent,
        applied: Generation(100),
        containers: containers
            .map(|c| ReportedContainer {
                key: c.key,
                slots: c.slots.clone(),
                devices: c.devices.clone(),
            })
            .collect(),
    }
}

#[test]
fn books_that_agree_give_no_line() {
    let mut world = World::new();
    let first = world
        .submit(
            2,
            json!({"group": "bare", "slots": {"cuda.device": "1", "cpu": "2"}}),
        )
        .unwrap();
    let second = world.submit(3, json!({"group": "bare"})).unwrap();
    world.place();
    let mut report = honest(&world);
    assert_eq!(report.containers.len(), 2);
    let audit = usage_audit(world.state(), std::slice::from_ref(&report));
    assert_eq!(audit.drifts, []);
    assert_eq!(audit.not_checked, ["h100-1"]);

    // A set that the agent has not applied cannot be held against it.
    let before = Reported {
        applied: Generation(1),
        containers: Vec::new(),
        ..report.clone()
    };
    assert_eq!(usage_audit(world.state(), &[before]).drifts, []);

    // One core more, and another device than was booked.
    let container = &mut report.containers[0];
    assert_eq!(container.key.session, first);
    container.slots.set(SlotName::cpu(), 3000);
    let booked = container.devices[0].device.clone();
    container.devices[0].device = "GPU-bare-7".parse().unwrap();
    report.containers.retain(|c| c.key.session != second);
    let audit = usage_audit(world.state(), &[report]);
    let lines: Vec<String> = audit
        .drifts
        .iter()
        .map(|d| {
            let device = d.device.as_deref().unwrap_or("-");
            format!(
                "{} {} {device} {} {} {} {}",
                d.agent,
                d.slot,
                d.booked,
                d.reported,
                d.difference,
                d.sessions.join("+")
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            format!("bare-1 cuda.device {booked} 1 0 -1 {first}"),
            format!("bare-1 cuda.device GPU-bare-7 0 1 1 {first}"),
            format!("bare-1 cpu - 3 3 0 {first}+{second}"),
            format!("bare-1 mem - 4294967296 2147483648 -2147483648 {second}"),
        ]
    );
    assert!(
        audit.closed.is_empty(),
        "a container that is not closed is not for this"
    );
}

#[test]
fn claims_of_what_is_gone_are_closed_when_asked() {
    let mut world = World::new();
    let id = world.submit(2, json!({"group": "bare"})).unwrap();
    world.place();
    // Books that kept a claim although the container is closed: as after a fault.
    let mut session = world.session(id).unwrap().clone();
    let key = session.containers[0].key;
    session.containers[0].state = longshore_common::session::ContainerState::Closed;
    world.core.apply(&Change::Session(Box::new(session)));
    let report = Reported {
        agent: AgentId::new(1),
        applied: Generation(100),
        containers: Vec::new(),
    };
    let verb = |apply| AdminVerb::UsageAudit {
        reports: vec![report.clone()],
        apply,
    };
    let look = |object| match object {
        AdminObject::Audit(audit) => audit,
        other => panic!("{other:?}"),
    };
    let audit = look(world.admin(verb(false)).unwrap());
    assert_eq!(
        (audit.closed, audit.drifts.len()),
        (vec![key.to_string()], 2)
    );
    assert!(world.state().ledger.contains_key(&key));
    look(world.admin(verb(true)).unwrap());
    assert!(!world.state().ledger.contains_key(&key));
    assert_eq!(world.state().agent_use(AgentId::new(1)).slots, Slots::new());
    let audit = look(world.admin(verb(true)).unwrap());
    assert!(audit.drifts.is_empty() && audit.closed.is_empty());
}
