//! Anything that can happen, out of three numbers, so that a failing run shrinks and
//! the store can follow the same runs.

#![allow(unreachable_pub, reason = "shared by several test crates")]

use super::world::{World, beginning, exit, failed, inventory, job, slots};
use longshore_common::agent::{AgentState, Health, RuntimeState};
use longshore_common::api::{NewArray, NewCluster, NewDependency, NewRestart, SessionPatch};
use longshore_common::ids::{AgentId, ContainerKey, SessionId};
use longshore_common::session::{Cause, ContainerState, End, Exit, Reason, SessionType};
use longshore_common::time::Timestamp;
use longshore_common::wire::OutcomeNumber;
use longshore_core::model::{DrainOrder, Event, NewDrain, Steering};

/// One step: what, and two numbers to choose by.
pub type Step = (u8, u16, u16);

/// A world with three nodes: two with GPUs, one without.
pub fn world() -> World {
    let mut world = World::new();
    for (name, gpus) in [("n1", 2), ("n2", 3), ("n3", 0)] {
        world.agent(name, gpus);
    }
    world
}

/// Something happens. What cannot happen in this state changes nothing.
pub fn step(world: &mut World, (what, a, b): Step) {
    match what % 26 {
        0..=4 => submit(world, a, b),
        5..=7 => orderly(world, a),
        8..=10 => {
            let Some((agent, key)) = some_container(world, a) else {
                return;
            };
            let states = [
                ContainerState::Pulling,
                ContainerState::Creating,
                ContainerState::Created,
                ContainerState::Starting,
                ContainerState::Running,
                ContainerState::Stopping,
                ContainerState::Exited,
            ];
            world.report_key(agent, key, states[usize::from(b) % states.len()]);
        }
        11 | 12 => {
            let Some((agent, key)) = some_container(world, a) else {
                return;
            };
            world.outcome(agent, key, OutcomeNumber::Ended, Some(some_end(b)));
        }
        13 | 14 => {
            let Some((agent, key)) = some_container(world, a) else {
                return;
            };
            let end = (b.is_multiple_of(3)).then(|| some_end(b / 3));
            world.outcome(agent, key, OutcomeNumber::Closed, end);
        }
        15 => {
            let ids: Vec<SessionId> = (0..3)
                .filter_map(|n| some_session(world, a.wrapping_add(n)))
                .collect();
            world.terminate(&ids, u32::from(b % 60), b.is_multiple_of(5));
        }
        16 | 17 => world.later(i64::from(a) * i64::from(b % 64 + 1) / 8),
        18 => {
            let Some(agent) = some_agent(world, a) else {
                return;
            };
            world.silent(agent, [1_000, 15_000, 60_000, 600_000][usize::from(b % 4)]);
        }
        19 | 20 => {
            let Some(agent) = some_agent(world, a) else {
                return;
            };
            world.hello(agent);
        }
        21 => {
            let Some(agent) = some_agent(world, a) else {
                return;
            };
            if world.state().agents[&agent].drain.is_none() {
                world.schedulable(agent, b % 3 != 0);
            }
        }
        22 => whole_report(world, a, b),
        23 => {
            let Some(agent) = some_agent(world, a) else {
                return;
            };
            let runtime =
                [RuntimeState::Up, RuntimeState::Up, RuntimeState::Down][usize::from(b % 3)];
            world.does(Event::Condition {
                agent,
                runtime,
                disk_low: b.is_multiple_of(7),
            });
        }
        24 => device_changes(world, a, b),
        _ => rare(world, a, b),
    }
}

fn submit(world: &mut World, a: u16, b: u16) {
    let gpus = (a % 4).to_string();
    let mut request = slots(
        job(),
        &[("cuda.device", &gpus), ("cpu", &(b % 9 + 1).to_string())],
    );
    request.priority = Some(i64::from(b % 5) * 10);
    request.name = (a.is_multiple_of(3)).then(|| format!("name-{}", b % 8));
    request.hold = b.is_multiple_of(11);
    request.restart = (b.is_multiple_of(2)).then(|| NewRestart {
        max: i64::from(a % 4),
        on: a.is_multiple_of(5).then(|| {
            let on = ["agent-lost", "failed", "out-of-memory"];
            on.map(str::to_owned).to_vec()
        }),
    });
    request.lifetime_s = (b.is_multiple_of(6)).then_some(i64::from(a % 500) + 1);
    if a.is_multiple_of(7) {
        request.kind = Some(SessionType::Interactive.to_string());
    }
    request.array = (a % 9 == 2).then(|| NewArray {
        range: format!("{}-{}", b % 3, b % 3 + b % 7),
        parallel: (!a.is_multiple_of(4)).then_some(i64::from(a % 4)),
    });
    request.cluster = (a % 9 > 4).then(|| NewCluster {
        size: i64::from(a % 3) + 1,
        mode: (!b.is_multiple_of(3)).then(|| "multi-node".to_owned()),
        run: (!b.is_multiple_of(4)).then(|| "all".to_owned()),
        containers: Vec::new(),
    });
    if b % 10 == 3
        && let Some(other) = some_session(world, a)
    {
        let on = ["ok", "any", "fail"][usize::from(a % 3)];
        request.depends_on.push(NewDependency {
            session: other.to_string(),
            on: Some(on.to_owned()),
        });
    }
    let key = (b.is_multiple_of(4)).then(|| {
        (
            format!("key-{}", a % 16),
            [u8::try_from(b % 2).unwrap_or(0); 32],
        )
    });
    let _ = world.ask_again(request, key); // a refusal is an answer too
}

/// The step a good agent would take next for some container.
fn orderly(world: &mut World, a: u16) {
    if let Some((agent, key)) = some_container(world, a) {
        obey(world, agent, key);
    }
}

/// An agent does what stands in its set for one container.
pub fn obey(world: &mut World, agent: AgentId, key: ContainerKey) {
    let Some(entry) = world.order(agent, key) else {
        return;
    };
    let state = world.stored[&key.session]
        .containers
        .iter()
        .find(|c| c.key == key)
        .map(|c| c.state);
    use longshore_common::session::Want::{Prepare, Run, Stop};
    match (entry.want, state) {
        (Prepare, _) => world.report_key(agent, key, ContainerState::Created),
        (Run, Some(ContainerState::Running)) => {
            world.outcome(agent, key, OutcomeNumber::Ended, Some(exit(0)));
        }
        (Run, _) => world.report_key(agent, key, ContainerState::Running),
        (Stop, _) => world.outcome(agent, key, OutcomeNumber::Closed, None),
    }
}

fn some_end(b: u16) -> End {
    let at = Timestamp(i64::from(b));
    match b % 9 {
        0 => exit(0),
        1 => exit(3),
        2 => End::Exited(Exit {
            code: 137,
            signal: Some(9),
            oom: false,
            at,
        }),
        3 => End::Exited(Exit {
            code: 137,
            signal: Some(9),
            oom: true,
            at: Timestamp(i64::MAX),
        }),
        4 => failed(Cause::PullNetwork),
        5 => failed(Cause::CommandNotFound),
        6 => End::Stopped {
            reason: Reason::LifetimeExceeded,
            exit: None,
        },
        7 => End::Vanished {
            rebooted: b.is_multiple_of(2),
        },
        _ => End::Stopped {
            reason: Reason::UserRequested,
            exit: Some(Exit {
                code: 143,
                signal: Some(15),
                oom: false,
                at,
            }),
        },
    }
}

fn whole_report(world: &mut World, a: u16, b: u16) {
    let Some(agent) = some_agent(world, a) else {
        return;
    };
    let keys: Vec<ContainerKey> = world.state().on_agent(agent).collect();
    let items: Vec<(ContainerKey, ContainerState)> = keys
        .into_iter()
        .enumerate()
        .filter(|(n, _)| b >> (n % 16) & 1 == 0)
        .map(|(_, key)| (key, ContainerState::Running))
        .collect();
    world.whole(agent, &items, b.is_multiple_of(2));
}

fn device_changes(world: &mut World, a: u16, b: u16) {
    let Some(agent) = some_agent(world, a) else {
        return;
    };
    let Some(mut inventory) = world.state().agents[&agent].inventory.as_deref().cloned() else {
        return;
    };
    let count = inventory.devices.len().max(1);
    if let Some(device) = inventory.devices.get_mut(usize::from(b) % count) {
        device.health = if b.is_multiple_of(2) {
            Health::Healthy
        } else {
            Health::Lost
        };
    }
    world.does(Event::Inventory {
        agent,
        inventory: Box::new(inventory),
    });
}

/// A node is to be emptied, or not any more.
pub fn drain(world: &mut World, agent: AgentId, begin: Option<NewDrain>) {
    let order = DrainOrder {
        agent,
        dry_run: false,
        version: None,
        begin,
    };
    let _ = world.happen(Event::Drain(Box::new(order))); // a refusal is an answer too
}

fn rare(world: &mut World, a: u16, b: u16) {
    match b % 13 {
        8 => {
            let Some(agent) = some_agent(world, a) else {
                return;
            };
            let _ = world.confirm(agent); // one that is alive is not lost
        }
        9..=11 => {
            let Some(id) = some_session(world, a) else {
                return;
            };
            let what = match a % 5 {
                0 => Steering::Hold,
                1 => Steering::Release,
                2 => Steering::Change(SessionPatch {
                    priority: Some(i64::from(a % 9) * 10),
                    name: (a.is_multiple_of(4)).then(|| format!("name-{}", a % 8)),
                    ..SessionPatch::default()
                }),
                _ => Steering::Restart,
            };
            let _ = world.steer(id, what); // a refusal is an answer too
        }
        0 => {
            let Some(agent) = some_agent(world, a) else {
                return;
            };
            world.does(Event::Expel { agent });
            let name = format!("x{}", world.state().agents.len());
            world.agent(&name, u32::from(a % 3));
        }
        1 => drop(world.does(Event::Started(Box::new(beginning())))),
        2 => drop(world.token(2, None)),
        3 => {
            let Some(id) = world.state().tokens.keys().next().cloned() else {
                return;
            };
            world.does(Event::DeleteToken(id));
        }
        4 => {
            // A container it was never given, from an agent that has none.
            let Some(agent) = some_agent(world, a) else {
                return;
            };
            let Some((_, key)) = some_container(world, b) else {
                return;
            };
            world.report_key(agent, key, ContainerState::Running);
        }
        5 => world.later(86_400_000),
        12 => {
            let Some(agent) = some_agent(world, a) else {
                return;
            };
            let begin = (!a.is_multiple_of(4)).then(|| NewDrain {
                deadline: Some(world.now.plus_s(i64::from(a % 600) + 1)),
                message: String::new(),
                by: "user root".to_owned(),
                moves: a.is_multiple_of(3),
            });
            drain(world, agent, begin);
        }
        6 => {
            let Some(agent) = some_agent(world, a) else {
                return;
            };
            let name = world.state().agents[&agent].name.clone();
            let same = Box::new(inventory(&name, u32::from(a % 3)));
            // Fewer GPUs than before, as after a fault; plain slots stay.
            world.does(Event::Inventory {
                agent,
                inventory: same,
            });
        }
        _ => world.does_tick(),
    }
}

impl World {
    fn does_tick(&mut self) {
        self.does(Event::Tick);
    }
}

fn some_agent(world: &World, a: u16) -> Option<AgentId> {
    let there: Vec<AgentId> = world
        .state()
        .agents
        .values()
        .filter(|n| n.state != AgentState::Terminated)
        .map(|n| n.id)
        .collect();
    there.get(usize::from(a) % there.len().max(1)).copied()
}

fn some_session(world: &World, a: u16) -> Option<SessionId> {
    let count = world.state().sessions.len().max(1);
    world
        .state()
        .sessions
        .keys()
        .nth(usize::from(a) % count)
        .copied()
}

fn some_container(world: &World, a: u16) -> Option<(AgentId, ContainerKey)> {
    let all: Vec<(AgentId, ContainerKey)> = world
        .state()
        .sessions
        .values()
        .flat_map(|s| &s.containers)
        .map(|c| (c.agent, c.key))
        .collect();
    all.get(usize::from(a) % all.len().max(1)).copied()
}
