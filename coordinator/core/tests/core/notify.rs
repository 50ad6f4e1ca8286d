//! Who is told what.

use super::world::{World, exit, gpu_job};
use longshore_common::notify::NoteEvent;
use longshore_core::model::{
    Ask, Called, Caller, Change, Channel, DrainOrder, Event, More, NewDrain, Note, NotifyChoice,
    NotifyOrder, NotifySettings,
};
use std::collections::BTreeSet;

fn notes(world: &World) -> Vec<&Note> {
    let changes = world.changes.iter();
    let notes = changes.filter_map(|change| match change {
        Change::Note(note) => Some(&**note),
        _ => None,
    });
    notes.collect()
}

fn events(world: &World) -> Vec<NoteEvent> {
    notes(world).iter().map(|note| note.event).collect()
}

fn mailing() -> World {
    let mut world = World::new();
    let settings = NotifySettings {
        mail: true,
        hooks: Vec::new(),
    };
    world.does(Event::Notify(Box::new(NotifyOrder::Settings(settings))));
    world
}

fn choose(world: &mut World, choice: NotifyChoice) {
    let order = NotifyOrder::Choose {
        choice,
        dry_run: false,
    };
    world.does(Event::Notify(Box::new(order)));
}

#[test]
fn where_nobody_listens_nothing_is_written() {
    let mut world = World::new();
    world.agent("n1", 2);
    let id = world.submit(gpu_job(1));
    world.run(id);
    world.ends(id, exit(1));
    assert!(notes(&world).is_empty());
}

#[test]
fn an_owner_hears_of_the_end_and_of_the_start_if_that_was_chosen() {
    let mut world = mailing();
    world.agent("n1", 2);
    let ada = world.caller().user;
    let id = world.submit(gpu_job(1));
    world.run(id);
    world.ends(id, exit(3));
    let [end] = notes(&world)[..] else {
        panic!("one note: {:?}", notes(&world))
    };
    assert_eq!((end.event, &end.to), (NoteEvent::End, &Channel::Mail(ada)));
    assert_eq!(end.session, Some(id));
    assert!(
        end.text.contains("task-failed") && end.text.contains("exit code 3"),
        "{}",
        end.text
    );
    world.changes.clear();
    let chosen = NotifyChoice {
        mail: Some(BTreeSet::new()),
        webhook: Some(BTreeSet::from([NoteEvent::Start])),
        url: Some("https://desk.lab/".to_owned()),
        ..NotifyChoice::usual(ada)
    };
    choose(&mut world, chosen);
    let id = world.submit(gpu_job(1));
    world.run(id);
    world.ends(id, exit(0));
    let told: Vec<_> = notes(&world).iter().map(|n| (n.event, &n.to)).collect();
    assert_eq!(told, [(NoteEvent::Start, &Channel::Own(ada))]);
}

#[test]
fn who_ends_its_own_is_not_told_and_who_is_stopped_by_another_is() {
    let mut world = mailing();
    world.agent("n1", 2);
    let id = world.submit(gpu_job(1));
    world.run(id);
    world.terminate(&[id], 30, false);
    world.ends(id, exit(143));
    assert!(notes(&world).is_empty(), "{:?}", notes(&world));
    // The same by somebody else.
    let eve = world.user("eve");
    let id = world.submit(gpu_job(1));
    world.run(id);
    let order = longshore_core::model::Terminate {
        caller: Caller {
            user: eve,
            access_key: "LKeve".to_owned(),
        },
        called: None,
        ids: vec![id],
        grace_s: 30,
        force: false,
        many: false,
        handed: std::collections::BTreeMap::new(),
    };
    world.does(Event::Terminate(order));
    world.ends(id, exit(143));
    assert_eq!(events(&world), [NoteEvent::Changed, NoteEvent::End]);
    assert!(notes(&world)[0].text.contains("eve stops it"));
}

#[test]
fn what_a_node_warns_of_is_told_once_it_is_about_one_of_its_sessions() {
    let mut world = mailing();
    let n1 = world.agent("n1", 2);
    let n2 = world.agent("n2", 0);
    let id = world.submit(gpu_job(1));
    world.run(id);
    let warned = |agent, key| Event::Warned {
        agent,
        key,
        text: "This session stops in 5 min: it is idle.\u{7}".to_owned(),
    };
    let key = world.key(id);
    world.does(warned(n2, key));
    assert!(notes(&world).is_empty(), "it is not on that node");
    world.does(warned(n1, key));
    let [note] = notes(&world)[..] else {
        panic!("one note")
    };
    assert_eq!(note.event, NoteEvent::Warn);
    assert!(note.text.ends_with("stops in 5 min: it is idle."));
    let line = world.history.last().expect("a line");
    assert_eq!((line.from, line.by.as_str()), (Some(line.to), "agent n1"));
}

#[test]
fn more_time_by_another_and_a_drain_are_told() {
    let mut world = mailing();
    let n1 = world.agent("n1", 2);
    let eve = world.user("eve");
    let mut request = gpu_job(1);
    request.lifetime_s = Some(3600);
    let id = world.submit(request);
    world.run(id);
    for user in [world.caller().user, eve] {
        world.does(Event::Prolong(Box::new(Ask {
            caller: Caller {
                user,
                access_key: String::new(),
            },
            called: None::<Called>,
            session: id,
            past: None,
            version: None,
            dry_run: false,
            what: More::By(Some(60)),
        })));
    }
    assert_eq!(events(&world), [NoteEvent::Changed]);
    world.changes.clear();
    let drain = |world: &World, s: i64| {
        Event::Drain(Box::new(DrainOrder {
            agent: n1,
            dry_run: false,
            version: None,
            begin: Some(NewDrain {
                deadline: Some(world.now.plus_s(s)),
                message: "RAM".to_owned(),
                by: "user root".to_owned(),
                moves: false,
            }),
        }))
    };
    let order = drain(&world, 3600);
    world.does(order.clone());
    world.does(order);
    assert_eq!(events(&world), [NoteEvent::Drain], "said once");
    assert!(notes(&world)[0].text.contains(": RAM"));
    let order = drain(&world, 60);
    world.does(order);
    assert_eq!(events(&world).len(), 2, "another deadline is news");
}

#[test]
fn administrators_hear_of_agents_and_webhooks_of_what_they_name() {
    let mut world = mailing();
    let settings = NotifySettings {
        mail: false,
        hooks: vec![
            ("desk".to_owned(), BTreeSet::from([NoteEvent::AgentLost])),
            ("pager".to_owned(), BTreeSet::from([NoteEvent::MassLoss])),
        ],
    };
    world.does(Event::Notify(Box::new(NotifyOrder::Settings(settings))));
    let agents: Vec<_> = (1..=3).map(|n| world.agent(&format!("n{n}"), 1)).collect();
    world.lose(agents[0]);
    let told: Vec<_> = notes(&world).iter().map(|n| (n.event, &n.to)).collect();
    assert_eq!(
        told,
        [(NoteEvent::AgentLost, &Channel::Hook("desk".to_owned()))]
    );
    world.changes.clear();
    world.lose(agents[1]);
    world.lose(agents[2]);
    let lost = NoteEvent::AgentLost;
    assert_eq!(
        events(&world),
        [lost, NoteEvent::MassLoss, lost],
        "the brake once"
    );
    world.changes.clear();
    // With mail, one who is a superadmin hears it too; that one is back is not usual.
    let settings = NotifySettings {
        mail: true,
        hooks: Vec::new(),
    };
    world.does(Event::Notify(Box::new(NotifyOrder::Settings(settings))));
    world.hello(agents[0]);
    assert!(notes(&world).is_empty());
    world.lose(agents[0]);
    assert_eq!(events(&world), [lost]);
}

#[test]
fn a_choice_is_checked_and_a_test_needs_a_place() {
    let mut world = World::new();
    let ada = world.caller().user;
    let test = |hook: Option<&str>| {
        Event::Notify(Box::new(NotifyOrder::Test {
            user: ada,
            hook: hook.map(str::to_owned),
        }))
    };
    let code = |told: Result<_, longshore_core::model::Refusal>| told.err().map(|no| no.code);
    assert_eq!(code(world.happen(test(None))), Some("LS-STATE"));
    assert_eq!(code(world.happen(test(Some("desk")))), Some("LS-NOT-FOUND"));
    let wrong = NotifyChoice {
        mail: Some(BTreeSet::from([NoteEvent::Test])),
        ..NotifyChoice::usual(ada)
    };
    let order = NotifyOrder::Choose {
        choice: wrong,
        dry_run: false,
    };
    let refused = world.happen(Event::Notify(Box::new(order)));
    assert_eq!(code(refused), Some("LS-INVALID"));
    choose(
        &mut world,
        NotifyChoice {
            url: Some("https://desk.lab/".to_owned()),
            ..NotifyChoice::usual(ada)
        },
    );
    world.does(test(None));
    assert_eq!(notes(&world)[0].to, Channel::Own(ada));
}

#[test]
fn administrators_hear_once_of_a_node_that_does_not_confirm() {
    let mut world = mailing();
    world.agent("n1", 2);
    let settings = NotifySettings {
        mail: false,
        hooks: vec![("desk".to_owned(), BTreeSet::from([NoteEvent::Alarm]))],
    };
    world.does(Event::Notify(Box::new(NotifyOrder::Settings(settings))));
    let id = world.submit(gpu_job(1));
    world.run(id);
    world.terminate(&[id], 0, true);
    world.later(899_000);
    assert_eq!(events(&world), []);
    world.later(1_000);
    assert_eq!(events(&world), [NoteEvent::Alarm]);
    let note = notes(&world)[0];
    assert_eq!(
        (note.session, &note.to),
        (Some(id), &Channel::Hook("desk".to_owned()))
    );
    assert!(note.text.contains("n1 did not confirm"), "{}", note.text);
    world.later(3_600_000);
    assert_eq!(events(&world).len(), 1, "once");
}

#[test]
fn trouble_of_the_coordinator_itself_is_an_alarm() {
    let mut world = mailing();
    let settings = NotifySettings {
        mail: false,
        hooks: vec![("desk".to_owned(), BTreeSet::from([NoteEvent::Alarm]))],
    };
    world.does(Event::Notify(Box::new(NotifyOrder::Settings(settings))));
    let text = "The database could not be backed up: /b: no".to_owned();
    world.does(Event::Trouble { text: text.clone() });
    let told = notes(&world);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].event, &told[0].text), (NoteEvent::Alarm, &text));
    assert_eq!((told[0].session, &told[0].agent), (None, &None));
}

#[test]
fn an_alarm_of_an_agent_counts_for_its_own_containers_alone() {
    let mut world = mailing();
    let (n1, n2) = (world.agent("n1", 2), world.agent("n2", 0));
    let settings = NotifySettings {
        mail: false,
        hooks: vec![("desk".to_owned(), BTreeSet::from([NoteEvent::Alarm]))],
    };
    world.does(Event::Notify(Box::new(NotifyOrder::Settings(settings))));
    let id = world.submit(gpu_job(1));
    world.run(id);
    let alarm = |agent, key| Event::Alarm {
        agent,
        key,
        text: "it got\u{7} more".to_owned(),
    };
    let key = world.key(id);
    world.does(alarm(n2, Some(key)));
    assert!(events(&world).is_empty(), "it is none of its containers");
    world.does(alarm(n1, Some(key)));
    world.does(alarm(n2, None));
    let texts: Vec<&str> = notes(&world).iter().map(|n| n.text.as_str()).collect();
    let of_session = format!("Agent n1, session {id}: it got more");
    assert_eq!(texts, [of_session.as_str(), "Agent n2: it got more"]);
    let lines = world.changes.iter().filter(|change| {
        matches!(change, Change::History(line) if line.detail.as_deref() == Some("it got more"))
    });
    assert_eq!(lines.count(), 1, "and its session shows it");
}
