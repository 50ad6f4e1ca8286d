//! Where the containers of one session go.

use super::{Class, Lane, Planner, Shape};
use crate::bugs;
use crate::model::{Change, Cursor, Selection, Session, State};
use crate::scheduler::nodes::{Wish, fits};
use crate::scheduler::room::grant_ranks;
use crate::scheduler::{Decisions, Placed, Start};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::devices::{Taken as _, allocate, granted, grants_all};
use longshore_common::ids::SessionId;
use longshore_common::session::{ClusterMode, DeviceGrant};
use longshore_common::time::Timestamp;
use std::cmp::Reverse;
use std::sync::Arc;

/// One container's place.
#[derive(Debug, Clone)]
pub(in crate::scheduler) struct Spot {
    pub(in crate::scheduler) node: u32,
    rank: u16,
    devices: Vec<DeviceGrant>,
}

impl Planner {
    /// Finds places for all containers of a session and takes them; none = nothing changed.
    pub(in crate::scheduler) fn place(
        &mut self,
        session: &Session,
        shape_at: u32,
        group: u32,
        now: Timestamp,
    ) -> Option<Vec<Spot>> {
        let penalised: Vec<u32> = session
            .penalties
            .iter()
            .filter(|(_, until)| *until > now && !bugs::is(20))
            .filter_map(|(id, _)| self.node_of.get(id).copied())
            .collect();
        self.place_shape(shape_at, group, &penalised)
    }

    /// The same for a shape, with agents that come last.
    pub(super) fn place_shape(
        &mut self,
        shape_at: u32,
        group: u32,
        penalised: &[u32],
    ) -> Option<Vec<Spot>> {
        let shape = self.shapes[shape_at as usize].as_ref()?;
        if shape.mode == ClusterMode::SingleNode || shape.ranks.len() == 1 {
            let (at, grants) = self.choose(shape, &shape.total, &shape.ranks, group, penalised)?;
            let spots: Vec<Spot> = grants
                .into_iter()
                .zip(0u16..)
                .map(|(devices, rank)| Spot {
                    node: at,
                    rank,
                    devices,
                })
                .collect();
            for spot in &spots {
                self.take(shape_at, spot, 1);
            }
            return Some(spots);
        }
        // The largest first; equal ones by rank.
        let mut order: Vec<u16> = (0u16..).take(shape.ranks.len()).collect();
        let vectors = shape.vectors.clone();
        order.sort_by(|a, b| {
            vectors[usize::from(*b)]
                .cmp(&vectors[usize::from(*a)])
                .then(a.cmp(b))
        });
        let mut spots: Vec<Spot> = Vec::with_capacity(order.len());
        for rank in order {
            let shape = self.shapes[shape_at as usize].as_ref()?;
            let found = self.choose(
                shape,
                &shape.vectors[usize::from(rank)],
                std::slice::from_ref(&shape.ranks[usize::from(rank)]),
                group,
                penalised,
            );
            let Some((node, mut grants)) = found else {
                for spot in spots.iter().filter(|_| !bugs::is(11)) {
                    self.take(shape_at, spot, -1);
                }
                return None;
            };
            let spot = Spot {
                node,
                rank,
                devices: grants.pop().unwrap_or_default(),
            };
            self.take(shape_at, &spot, 1);
            spots.push(spot);
        }
        spots.sort_by_key(|s| s.rank);
        Some(spots)
    }

    /// The best agent for containers that stay together, with their devices.
    fn choose(
        &self,
        shape: &Shape,
        request: &[i64],
        ranks: &[Arc<Slots>],
        group: u32,
        penalised: &[u32],
    ) -> Option<(u32, Vec<Vec<DeviceGrant>>)> {
        let row = &self.groups[group as usize];
        let cursor = row
            .selection
            .eq(&Selection::RoundRobin)
            .then(|| {
                self.cursors
                    .get(&(row.id, shape.arch_name.clone()))
                    .copied()
            })
            .flatten();
        let try_node = |at: u32| self.allocate_on(at, ranks);
        if shape.strict {
            let nodes: Vec<u32> = self.candidates(group, shape).collect();
            return self.by_rank(nodes, request, group, cursor, penalised, &[], try_node);
        }
        let wish = Wish {
            request,
            arch: shape.arch,
            after: cursor,
        };
        if shape.designated.is_empty() && penalised.is_empty() {
            return row.nodes.first(wish, &self.places, try_node);
        }
        let preferred: Vec<u32> = shape
            .designated
            .iter()
            .filter_map(|id| self.node_of.get(id).copied())
            .filter(|at| {
                let node = &self.nodes[*at as usize];
                node.group == group
                    && node.candidate
                    && shape.arch.is_none_or(|arch| arch == node.arch)
            })
            .collect();
        let first: Vec<u32> = preferred
            .iter()
            .copied()
            .filter(|at| !penalised.contains(at))
            .collect();
        let last: Vec<u32> = penalised
            .iter()
            .copied()
            .filter(|at| {
                let node = &self.nodes[*at as usize];
                node.group == group
                    && node.candidate
                    && shape.arch.is_none_or(|arch| arch == node.arch)
            })
            .collect();
        self.by_rank(first, request, group, cursor, &[], &[], try_node)
            .or_else(|| {
                row.nodes.first(wish, &self.places, |at| {
                    if penalised.contains(&at) {
                        return None;
                    }
                    try_node(at)
                })
            })
            .or_else(|| self.by_rank(last, request, group, cursor, &[], &preferred, try_node))
    }

    /// The best of few: the same order as that of the index, made by sorting.
    #[expect(clippy::too_many_arguments, reason = "the parts of one sort key")]
    fn by_rank<T>(
        &self,
        nodes: Vec<u32>,
        request: &[i64],
        group: u32,
        cursor: Option<u32>,
        penalised: &[u32],
        preferred: &[u32],
        take: impl Fn(u32) -> Option<T>,
    ) -> Option<(u32, T)> {
        let selection = self.groups[group as usize].selection;
        let slots = self.slots.len();
        let mut fitting: Vec<_> = nodes
            .into_iter()
            .filter(|at| fits(&self.places[*at as usize].free, request))
            .map(|at| {
                let place = &self.places[at as usize];
                let unneeded = place.free[..self.accelerators]
                    .iter()
                    .zip(request)
                    .filter(|(free, need)| **free > 0 && **need == 0)
                    .count();
                let strategy: Vec<i64> = match selection {
                    Selection::Concentrated => place.free[..slots].to_vec(),
                    Selection::Dispersed => place.free[..slots].iter().map(|f| -f).collect(),
                    Selection::RoundRobin => Vec::new(),
                };
                let turn = selection == Selection::RoundRobin
                    && cursor.is_some_and(|cursor| place.rank <= cursor);
                let key = (
                    penalised.contains(&at),
                    !preferred.contains(&at),
                    unneeded,
                    strategy,
                    turn,
                    place.rank,
                );
                (key, at)
            })
            .collect();
        fitting.sort();
        fitting
            .into_iter()
            .find_map(|(_, at)| take(at).map(|thing| (at, thing)))
    }

    /// Devices for each container on one agent, or none if they cannot be had together.
    fn allocate_on(&self, at: u32, ranks: &[Arc<Slots>]) -> Option<Vec<Vec<DeviceGrant>>> {
        let node = &self.nodes[at as usize];
        let inventory = node.inventory.as_deref()?;
        if let [only] = ranks {
            let grants = allocate(inventory, &node.occupied, only).ok()?;
            return Some(vec![grants]);
        }
        let requests = ranks.iter().map(|rank| &**rank);
        grant_ranks(inventory, &mut node.occupied.clone(), requests).ok()
    }

    /// Takes (1) or gives back (-1) what a container holds.
    fn take(&mut self, shape_at: u32, spot: &Spot, sign: i64) {
        let Some(shape) = &self.shapes[shape_at as usize] else {
            return;
        };
        let index = spot.node as usize;
        let (group, arch, candidate) = {
            let node = &self.nodes[index];
            (node.group, node.arch, node.candidate)
        };
        if candidate {
            self.groups[group as usize]
                .nodes
                .remove(arch, spot.node, &self.places[index]);
        }
        let node = &mut self.nodes[index];
        let free = &mut self.places[index].free;
        for (slot, need) in shape.vectors[usize::from(spot.rank)].iter().enumerate() {
            if slot >= 128 || node.device_slots & 1 << slot == 0 {
                free[slot] -= sign * need;
            }
        }
        for grant in &spot.devices {
            if let Some(inventory) = &node.inventory {
                node.occupied
                    .add(inventory, &grant.device, sign * grant.amount);
            }
            if let Ok(slot) = self.slots.binary_search(&grant.slot) {
                free[slot] -= sign * grant.amount;
            }
        }
        if candidate {
            self.groups[group as usize]
                .nodes
                .insert(arch, spot.node, &self.places[index]);
        }
    }

    /// Books a placement against accounts and takes the session out of its lane.
    pub(in crate::scheduler) fn book(
        &mut self,
        state: &State,
        id: SessionId,
        group: u32,
        shape_at: u32,
        spots: Vec<Spot>,
        decisions: &mut Decisions,
    ) -> Start {
        if let Some(seat) = self.seats.get(&id)
            && let Some(lane) = &self.lanes[seat.lane as usize]
            && let Some(shape) = &self.shapes[shape_at as usize]
        {
            let slots = self.slots.len();
            let moved: Vec<u32> = (0u32..)
                .zip(&self.groups)
                .filter(|(at, other)| {
                    let head = other.stopped.and_then(|s| self.lane_of_session(s.head));
                    *at != group
                        && head.is_some_and(|h| h.layers.iter().any(|a| lane.layers.contains(a)))
                })
                .map(|(at, _)| at)
                .collect();
            for other in moved {
                self.groups[other as usize].touched = true;
            }
            for at in lane.layers.iter().copied().chain([lane.in_group]) {
                let row = &mut self.accounts[at as usize];
                for (used, need) in row.used[..slots].iter_mut().zip(&shape.total) {
                    *used = used.saturating_add(*need);
                }
                row.sessions += u32::from(lane.counts);
                row.note_left(self.now);
                self.dirty_accounts.push(at);
            }
        }
        let row = &self.groups[group as usize];
        if row.selection == Selection::RoundRobin
            && let Some(last) = spots.last()
            && let Some(shape) = &self.shapes[shape_at as usize]
        {
            let node = &self.nodes[last.node as usize];
            let rank = self.places[last.node as usize].rank;
            let name = state.agents.get(&node.id).map_or("", |a| a.name.as_str());
            let cursor = Cursor {
                group: row.id,
                arch: shape.arch_name.clone(),
                agent: name.to_owned(),
            };
            if !bugs::is(18) {
                self.cursors.insert((row.id, shape.arch_name.clone()), rank);
            }
            decisions.changes.push(Change::Cursor(cursor));
        }
        let group_id = row.id;
        let shape = self.shapes[shape_at as usize].as_ref();
        let places = spots
            .into_iter()
            .map(|spot| {
                let node = &self.nodes[spot.node as usize];
                self.dirty_agents.push(node.id);
                let asked = shape.map_or_else(Default::default, |s| {
                    Arc::clone(&s.ranks[usize::from(spot.rank)])
                });
                let slots = match &node.inventory {
                    Some(inventory) if !spot.devices.is_empty() => {
                        match grants_all(inventory, &asked, &spot.devices) {
                            true => asked,
                            false => Arc::new(granted(inventory, &asked, &spot.devices)),
                        }
                    }
                    _ => asked,
                };
                Placed {
                    agent: node.id,
                    slots,
                    devices: spot.devices,
                }
            })
            .collect();
        let class = self.lane_of_session(id).and_then(|lane| lane.class);
        self.unseat(id);
        if let Some(class_at) = class
            && let Some(class) = &self.classes[class_at as usize]
            && class.ready == 0
        {
            self.forget_tries(class_at);
        }
        self.dirty_sessions.push(id);
        Start {
            session: id,
            group: group_id,
            pool: None,
            places,
        }
    }

    /// Takes places for a session that does not wait, and books nothing else: it is not among
    /// those that wait. None = there is no room, and nothing differs.
    pub(in crate::scheduler) fn start_at_once(
        &mut self,
        state: &State,
        session: &Session,
        group: u32,
        now: Timestamp,
        decisions: &mut Decisions,
    ) -> Option<Start> {
        self.with_shape(session, |planner, shape_at| {
            let spots = planner.place(session, shape_at, group, now)?;
            // Memory it takes may put a head at a limit, which sets free those behind it.
            for row in planner.groups.iter_mut().filter(|g| g.stopped.is_some()) {
                row.touched = true;
            }
            planner.book_direct(state, group, session);
            Some(planner.book(state, session.id, group, shape_at, spots, decisions))
        })
    }

    pub(in crate::scheduler) fn shape_at_of(&self, id: SessionId) -> Option<u32> {
        self.lane_of_session(id).map(|lane| lane.shape)
    }

    /// What a session asks for in all, per slot of the planner.
    pub(in crate::scheduler) fn slot_names(&self) -> &[SlotName] {
        &self.slots
    }

    /// Takes places only to see whether there are any, and gives them back.
    pub(in crate::scheduler) fn could_place(
        &mut self,
        session: &Session,
        group: u32,
        now: Timestamp,
    ) -> Option<Vec<Spot>> {
        self.with_shape(session, |planner, shape_at| {
            let spots = planner.place(session, shape_at, group, now);
            for spot in spots.iter().flatten() {
                planner.take(shape_at, spot, -1);
            }
            spots
        })
    }

    /// Agents that could be asked at all for a session, by name.
    pub(in crate::scheduler) fn candidates_for(
        &mut self,
        session: &Session,
        group: u32,
    ) -> Vec<u32> {
        self.with_shape(session, |planner, shape_at| {
            let Some(shape) = &planner.shapes[shape_at as usize] else {
                return Vec::new();
            };
            if shape.strict {
                let mut named: Vec<u32> = planner.candidates(group, shape).collect();
                named.sort_unstable();
                return named;
            }
            // They stand by name already.
            let nodes = (0u32..).zip(&planner.nodes);
            let able = nodes.filter(|(_, node)| {
                let right = shape.arch.is_none_or(|arch| arch == node.arch);
                node.candidate && node.group == group && right
            });
            able.map(|(at, _)| at).collect()
        })
    }

    /// Whether no candidate of a group could hold a session even when all are empty.
    pub(in crate::scheduler) fn session_never_fits(
        &mut self,
        session: &Session,
        group: u32,
    ) -> bool {
        self.with_shape(session, |planner, shape_at| {
            planner.shape_never_fits(group, shape_at)
        })
    }

    /// Asks something about the shape of a session that may not be there.
    fn with_shape<T>(&mut self, session: &Session, ask: impl FnOnce(&mut Self, u32) -> T) -> T {
        let shape_at = self.shape(session);
        if let Some(shape) = &mut self.shapes[shape_at as usize] {
            shape.users += 1;
        }
        let answer = ask(self, shape_at);
        self.drop_shape(shape_at);
        answer
    }

    /// Classes of a group by band, for those who walk its order.
    pub(in crate::scheduler) fn bands(
        &self,
        group: u32,
    ) -> impl Iterator<Item = (u8, Vec<&Class>)> {
        self.groups[group as usize]
            .bands
            .iter()
            .map(|(Reverse(priority), classes)| {
                let classes = classes
                    .iter()
                    .filter_map(|at| self.classes[*at as usize].as_ref())
                    .collect();
                (*priority, classes)
            })
    }

    /// Lanes of a class, parked ones included.
    pub(in crate::scheduler) fn lanes_of(&self, class: &Class) -> impl Iterator<Item = &Lane> {
        let lanes = class.all_lanes.iter();
        lanes.filter_map(|at| self.lanes[*at as usize].as_ref())
    }

    /// Used amounts, capacity and weight that make a user's share.
    pub(in crate::scheduler) fn share_parts(&self, lane: &Lane) -> (u32, &[i64], i64) {
        let row = &self.accounts[lane.user as usize];
        (lane.user, &row.used, row.weight)
    }

    pub(in crate::scheduler) fn shape_total(&self, lane: &Lane) -> &[i64] {
        self.shapes[lane.shape as usize]
            .as_ref()
            .map_or(&[], |s| &s.total)
    }
}
