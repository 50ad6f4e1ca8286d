//! How nodes come in, and the first administrator.

use super::world::{World, beginning, inventory};
use longshore_common::agent::AgentState;
use longshore_common::ids::UserId;
use longshore_common::wire::EnrolRefusal::{
    Malformed, NameTaken, TokenExpired, TokenUnknown, TokenUsedUp,
};
use longshore_core::Core;
use longshore_core::model::{Event, JoinTokenOrder, Keypair, Role, SetupOrder, State, User};

#[test]
fn tokens_are_known_good_and_counted() {
    let mut world = World::new();
    let token = world.token(2, None);
    let no = |world: &mut World, token: &str, name: &str, key| {
        world.enrol(token, name, [key; 32]).unwrap_err().enrol
    };
    assert_eq!(no(&mut world, "other", "n1", 1), Some(TokenUnknown));
    let n1 = world.enrol(&token, "n1", [1; 32]).unwrap();
    assert_eq!(
        world.state().agents[&n1].state,
        AgentState::Lost,
        "until it connects"
    );
    assert_eq!(no(&mut world, &token, "N1", 2), Some(NameTaken));
    assert_eq!(no(&mut world, &token, "-bad", 2), Some(Malformed));
    world.enrol(&token, "n2", [2; 32]).unwrap();
    assert_eq!(no(&mut world, &token, "n3", 3), Some(TokenUsedUp));
    let late = world.token(1, None);
    world.later(3_600_000);
    assert_eq!(no(&mut world, &late, "n4", 4), Some(TokenExpired));
}

#[test]
fn an_answer_that_was_lost_is_given_again_for_ten_minutes() {
    let mut world = World::new();
    let token = world.token(1, None);
    let first = world.enrol(&token, "n1", [1; 32]).unwrap();
    world.later(600_000);
    assert_eq!(world.enrol(&token, "n1", [1; 32]).unwrap(), first);
    world.later(1);
    assert_eq!(
        world.enrol(&token, "n1", [1; 32]).unwrap_err().enrol,
        Some(TokenUsedUp)
    );
    assert_eq!(world.state().agents.len(), 1);
}

#[test]
fn a_token_may_fix_the_name() {
    let mut world = World::new();
    let token = world.token(1, Some("rack-7"));
    let agent = world.enrol(&token, "whatever", [1; 32]).unwrap();
    assert_eq!(world.state().agents[&agent].name, "rack-7");
    let order = |name: &str| {
        let mut token = world.state().tokens[&token].clone();
        token.agent_name = Some(name.to_owned());
        Event::CreateToken(JoinTokenOrder { token, group: None })
    };
    let (taken, bad) = (order("RACK-7"), order("a b"));
    assert_eq!(world.happen(taken).unwrap_err().code, "LS-EXISTS");
    assert_eq!(world.happen(bad).unwrap_err().code, "LS-INVALID");
}

#[test]
fn a_token_taken_back_opens_nothing() {
    let mut world = World::new();
    let token = world.token(1, None);
    world.does(Event::DeleteToken(token.clone()));
    world.does(Event::DeleteToken(token.clone()));
    assert_eq!(
        world.enrol(&token, "n1", [1; 32]).unwrap_err().enrol,
        Some(TokenUnknown)
    );
}

#[test]
fn a_token_for_an_unknown_group_is_refused() {
    let mut world = World::new();
    let id = world.token(1, None);
    let token = world.state().tokens[&id].clone();
    let order = JoinTokenOrder {
        token,
        group: Some("nope".into()),
    };
    assert_eq!(
        world.happen(Event::CreateToken(order)).unwrap_err().code,
        "LS-GROUP-UNKNOWN"
    );
}

#[test]
fn a_renewed_key_and_the_one_before_it_are_good() {
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let renew = |proven: u8, key: u8| Event::RenewKey {
        agent,
        key: [key; 32],
        proven: [proven; 32],
    };
    world.does(renew(2, 3));
    world.does(renew(3, 4));
    assert_eq!(world.state().agents[&agent].keys, [[4; 32], [3; 32]]);
    assert_eq!(
        world.happen(renew(2, 5)).unwrap_err().code,
        "LS-AUTH-FAILED"
    );
    world.does(renew(4, 4));
    assert_eq!(world.state().agents[&agent].keys, [[4; 32]]);
}

#[test]
fn the_same_inventory_again_changes_nothing() {
    let mut world = World::new();
    let agent = world.agent("n1", 1);
    let state = world.state().clone();
    world.does(Event::Inventory {
        agent,
        inventory: Box::new(inventory("n1", 1)),
    });
    assert_eq!(*world.state(), state);
}

#[test]
fn the_first_administrator_is_made_once() {
    let mut world = World::new();
    let user = User {
        username: "root".into(),
        email: "root@example.org".into(),
        role: Role::Superadmin,
        uid: 0,
        user_policy: "other".into(),
        ..User::new(UserId::new(5), world.now)
    };
    let keypair = Keypair {
        policy: "other".into(),
        main: false,
        ..Keypair::new("LK", [0; 32], user.id, world.now)
    };
    let setup = Event::Setup(Box::new(SetupOrder {
        user,
        keypair,
        place: Default::default(),
    }));
    assert!(world.happen(setup.clone()).is_err(), "ada is there");
    world.core = Core::new(State::new(super::world::meta()));
    world.does(setup);
    assert_eq!(world.state().users[&UserId::new(5)].uid, 20_000);
    assert_eq!(world.state().meta.next_uid, 20_001);
    let before = world.state().generation();
    world.does(Event::Started(Box::new(beginning())));
    assert_eq!(world.state().groups.len(), 1, "made once");
    world.does(Event::Started(Box::new(beginning())));
    assert_eq!(world.state().generation(), before.next().next());
}
