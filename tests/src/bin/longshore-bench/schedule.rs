//! The pure core alone, on one core: placements per second at 10,000 agents, their cost
//! beside that at 100 agents, a pass that can start nothing, `explain`, and memory.

use super::Order;
use super::report::{Of, Row, Target};
use anyhow::{Context as _, Result, anyhow};
use longshore_common::agent::{AgentState, Allocation, Device, Health, Inventory, RuntimeState};
use longshore_common::amount::{SlotName, Slots, UNIT};
use longshore_common::api::NewSession;
use longshore_common::ids::{
    AgentId, ClusterId, CoordinatorGeneration, DeviceId, Fence, Generation, GroupId, SessionId,
    UserId,
};
use longshore_common::time::Timestamp;
use longshore_core::Core;
use longshore_core::model::{
    AccessRule, Agent, Caller, Change, Discipline, Group, Keypair, Meta, Role, SessionDefaults,
    State, Submit, User, check_submit,
};
use longshore_core::scheduler::{Planner, explain};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

const START: Timestamp = Timestamp(1_800_000_000_000);
const GROUP: GroupId = GroupId::new(1);
const USERS: u64 = 200;
/// GPUs, cores and GiB of each shape.
const SHAPES: [(u32, u32, u32); 5] = [
    (1, 4, 32),
    (2, 8, 64),
    (4, 16, 128),
    (8, 32, 256),
    (0, 2, 4),
];

pub(super) fn measure(order: &Order) -> Result<Vec<Row>> {
    let (agents, pending) = order.pick((10_000, 100_000), (200, 2000));
    // First: what was given back before would be used again unseen.
    let full = full(agents, pending)?;
    let mut rows = Vec::new();
    for discipline in [Discipline::Fifo, Discipline::Lifo, Discipline::Drf] {
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for _ in 0..order.pick(order.pairs.min(3), 1) {
            large.push(placements(discipline, agents, pending, 1)?);
            small.push(placements(discipline, 100, pending / 10, 100)?);
        }
        rows.push(
            Row::new(
                "schedule",
                &format!("placements, {discipline}"),
                "/s",
                large,
            )
            .beside("the same with 100 agents", small)
            .target(Of::Ours, Target::AtLeast(200_000.0))
            .note(format!(
                "{agents} agents of 8 GPUs, {pending} waiting, one core, time of the processor"
            )),
        );
    }
    rows.extend(full);
    Ok(rows)
}

/// Placements per second of the processor, of passes over an empty cluster, each from the
/// beginning. One of few agents is over within a millisecond, which alone would tell more of the
/// machine than of it.
fn placements(discipline: Discipline, agents: u32, pending: u64, passes: u32) -> Result<f64> {
    let core = world(discipline, agents, pending)?;
    let (state, now) = (core.state(), START.plus_s(1000));
    let (mut starts, mut took) = (0, 0.0);
    for _ in 0..passes {
        let mut planner = Planner::new();
        planner.prepare(state, now);
        let began = processor_s();
        let decisions = planner.plan(state, now);
        took += processor_s() - began;
        starts += decisions.starts.len();
    }
    Ok(count(starts) / took)
}

/// A cluster in which nothing more fits.
fn full(agents: u32, pending: u64) -> Result<Vec<Row>> {
    let empty = resident()?;
    let mut core = world(Discipline::Fifo, agents, 0)?;
    let now = START.plus_s(1000);
    let (state, planner) = core.ask();
    planner.prepare(state, now);
    let with_agents = resident()?;
    submit(&mut core, pending)?;
    let (state, planner) = core.ask();
    planner.prepare(state, now);
    let with_sessions = resident()?;
    // Each pass counts a try; when every shape has had its tries, all that fits is placed.
    let (mut changes, mut effects) = (Vec::new(), Vec::new());
    let mut at = now;
    let mut placed = 0;
    for _ in 0..4 * SHAPES.len() {
        placed += core.place(at, &mut changes, &mut effects).starts.len();
        changes.clear();
        effects.clear();
        at = at.plus_s(10);
    }
    let waiting = core.state().pending_count(GROUP);
    let mut passes = Vec::new();
    let mut explained = Vec::new();
    for turn in 0..5u128 {
        // Something happens that frees nothing: an agent is switched off and on again.
        let mut agent = core
            .state()
            .agents
            .values()
            .nth(7)
            .context("no agent")?
            .clone();
        agent.schedulable = turn % 2 == 1;
        core.apply(&Change::Agent(Box::new(agent)));
        let began = Instant::now();
        let decisions = core.place(at, &mut changes, &mut effects);
        passes.push(began.elapsed().as_secs_f64() * 1000.0);
        if !decisions.starts.is_empty() {
            return Err(anyhow!(
                "{} were placed in a full cluster",
                decisions.starts.len()
            ));
        }
        let (state, planner) = core.ask();
        let session = state
            .queue(GROUP)
            .nth(waiting / 2)
            .context("nobody waits")?
            .clone();
        let began = Instant::now();
        let told = explain(planner, state, &session, at);
        explained.push(began.elapsed().as_secs_f64() * 1000.0);
        if told.agents.is_empty() {
            return Err(anyhow!("nothing was explained"));
        }
    }
    let note = format!("{agents} agents, {waiting} waiting, {placed} placed");
    let per = |bytes: f64, things: f64| bytes / things / 1024.0;
    Ok(vec![
        Row::new("schedule", "a pass that starts nothing", "ms", passes)
            .target(Of::Ours, Target::AtMost(1.0))
            .note(note.clone()),
        Row::new("schedule", "one explain", "ms", explained)
            .target(Of::Ours, Target::AtMost(10.0))
            .note(note),
        Row::new(
            "schedule",
            "memory per session",
            "KiB",
            vec![per(
                with_sessions - with_agents,
                count(usize::try_from(pending)?),
            )],
        )
        .target(Of::Ours, Target::AtMost(2.0))
        .note("resident, state and indexes; all of them waiting"),
        Row::new(
            "schedule",
            "memory per agent",
            "KiB",
            vec![per(with_agents - empty, f64::from(agents))],
        )
        .target(Of::Ours, Target::AtMost(4.0))
        .note("resident, state and indexes; 8 GPUs, each agent with an inventory of its own"),
    ])
}

/// What this thread has had of the processor, in seconds: others that run beside it do not count.
fn processor_s() -> f64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds of one thread")]
    let (seconds, nanos) = (spent.tv_sec as f64, spent.tv_nsec as f64);
    seconds + nanos / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Resident memory of this process in bytes.
fn resident() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next());
    let kib: usize = kib.context("/proc/self/status has no VmRSS")?.parse()?;
    Ok(count(kib * 1024))
}

fn inventory(agent: u32) -> Result<Inventory> {
    let mut devices = Vec::new();
    for index in 0..8 {
        devices.push(Device {
            id: gpu(agent, index)?,
            index,
            slot: SlotName::cuda_device(),
            capacity: UNIT,
            model: "NVIDIA H100 80GB HBM3".into(),
            memory_bytes: 80 << 30,
            pci: format!("00000000:{index:02X}:00.0").into(),
            minor: Some(index),
            numa: Some(index / 4),
            links: (0..8)
                .filter(|other| *other != index)
                .map(|other| gpu(agent, other))
                .collect::<Result<_>>()?,
            health: Health::Healthy,
            health_detail: Box::default(),
        });
    }
    Ok(Inventory {
        hostname: format!("n{agent:05}.lab.example").into(),
        arch: "amd64".into(),
        os: "Debian GNU/Linux 12".into(),
        kernel: "6.1.0-30-amd64".into(),
        agent_version: "0.1.0".into(),
        engine_version: "28.0.4".into(),
        engine_storage: "overlay2".into(),
        cgroup_version: 2,
        driver_version: "550.127.05".into(),
        gpu_way: None,
        gpu_way_detail: Box::default(),
        offered: Slots::new()
            .with(SlotName::cpu(), 128 * UNIT)
            .with(SlotName::mem(), 1 << 40),
        total: Slots::new(),
        max_containers: 0,
        devices,
        allocation: Allocation::default(),
        networks: longshore_common::network::NodeNetworks::default(),
    }
    .sharing_names())
}

fn gpu(agent: u32, index: u32) -> Result<DeviceId> {
    Ok(format!("GPU-{agent:08x}-0000-0000-0000-{index:012x}").parse()?)
}

fn world(discipline: Discipline, agents: u32, pending: u64) -> Result<Core> {
    let mut state = State::new(Meta {
        cluster: ClusterId::new(1),
        generation: CoordinatorGeneration(1),
        next_session: 1,
        next_uid: 1,
    });
    let mut group = Group::new(GROUP, "default");
    group.default = true;
    group.scheduler = Some(discipline);
    state.apply(&Change::Group(group));
    state.apply(&Change::AccessRule(AccessRule::factory(START)));
    for number in 0..USERS {
        let id = UserId::new(u128::from(number) + 1);
        state.apply(&Change::User(Box::new(User {
            username: format!("u{number}"),
            email: format!("u{number}@example.org"),
            role: Role::User,
            uid: 1,
            user_policy: String::new(),
            ..User::new(id, START)
        })));
        state.apply(&Change::Keypair(Keypair {
            policy: String::new(),
            ..Keypair::new(&format!("k{number}"), [0; 32], id, START)
        }));
    }
    for number in 0..agents {
        state.apply(&Change::Agent(Box::new(Agent {
            id: AgentId::new(u128::from(number) + 1),
            version: 1,
            name: format!("n{number:05}"),
            group: GROUP,
            state: AgentState::Alive,
            schedulable: true,
            fence: Fence(1),
            generation: Generation(1),
            keys: Vec::new(),
            fingerprint: String::new(),
            machine: String::new(),
            boot_id: String::new(),
            inventory: Some(Arc::new(inventory(number)?)),
            runtime: RuntimeState::Up,
            disk_low: false,
            created_at: START,
            lost_since: None,
            braked_at: None,
            braked_ms: 0,
            unclaimed: Vec::new(),
            drain: None,
            cordons: BTreeMap::new(),
            told: None,
        })));
    }
    let mut core = Core::new(state);
    submit(&mut core, pending)?;
    Ok(core)
}

/// Sessions of mixed shapes from all users.
fn submit(core: &mut Core, pending: u64) -> Result<()> {
    let mut models = Vec::new();
    for (gpus, cpu, mem) in SHAPES {
        let request = NewSession {
            image: Some("base".to_owned()),
            command: vec!["work".to_owned()],
            slots: BTreeMap::from([
                ("cuda.device".to_owned(), gpus.to_string()),
                ("cpu".to_owned(), cpu.to_string()),
                ("mem".to_owned(), format!("{mem}g")),
            ]),
            ..NewSession::default()
        };
        let caller = Caller {
            user: UserId::new(1),
            access_key: "k0".to_owned(),
        };
        let order = Submit::new(caller, request, SessionDefaults::default());
        let session = check_submit(core.state(), &order, START)
            .map_err(|refusal| anyhow!("{}: {}", refusal.code, refusal.detail))?;
        models.push(session);
    }
    for number in 0..pending {
        let user = number.wrapping_mul(2_654_435_761) % USERS;
        let shape = usize::try_from(number)? % models.len();
        let mut session = models[shape].clone();
        session.id = SessionId(number + 1);
        session.owner = UserId::new(u128::from(user) + 1);
        session.owner_name = format!("u{user}");
        session.access_key = format!("k{user}");
        session.created_at = START.plus_ms(i64::try_from(number)?);
        core.apply(&Change::Session(Box::new(session)));
    }
    Ok(())
}
