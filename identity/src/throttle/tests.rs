use super::*;
use proptest::prelude::*;

/// Counters that take in what they decide.
struct Kept(Throttle);

impl std::ops::Deref for Kept {
    type Target = Throttle;
    fn deref(&self) -> &Throttle {
        &self.0
    }
}

impl Kept {
    fn default() -> Self {
        Self::new(Capacity::default())
    }

    fn new(capacity: Capacity) -> Self {
        Self(Throttle::new(capacity))
    }

    /// As at a start: what counts for nothing any more is dropped.
    fn load(capacity: Capacity, rows: impl IntoIterator<Item = Row>, now: Timestamp) -> Self {
        let mut kept = Self::new(capacity);
        for row in rows {
            kept.0.apply(&Change::Put(row));
        }
        let _ = kept.expire(now);
        kept
    }

    fn take(&mut self, changes: Vec<Change>) -> Vec<Change> {
        changes.iter().for_each(|change| self.0.apply(change));
        changes
    }

    fn failed(&mut self, name: NameKey, prefix: Prefix, now: Timestamp) -> Vec<Change> {
        self.take(self.0.failed(name, prefix, now))
    }

    fn succeeded(&mut self, name: NameKey, prefix: Prefix, now: Timestamp) -> Vec<Change> {
        self.take(self.0.succeeded(name, prefix, now))
    }

    fn code_failed(&mut self, user: UserId, now: Timestamp) -> Vec<Change> {
        self.take(self.0.code_failed(user, now))
    }

    fn unblock(&mut self, user: UserId, names: &[NameKey]) -> Vec<Change> {
        self.take(self.0.unblock(user, names))
    }

    fn expire(&mut self, now: Timestamp) -> Vec<Change> {
        self.take(self.0.expired(now))
    }
}

const fn at(seconds: i64) -> Timestamp {
    Timestamp(1_800_000_000_000 + seconds * 1000)
}

fn place(n: u32) -> Prefix {
    let [_, a, b, c] = n.to_be_bytes();
    Prefix::V4([a, b, c])
}

fn name(text: &str) -> NameKey {
    NameKey::of(text)
}

fn refused_by(throttle: &Throttle, who: &str, from: u32, now: i64) -> Option<(u32, Counter)> {
    let verdict = throttle.try_login(name(who), place(from), at(now));
    verdict.err().map(|r| (r.retry_after_s, r.by))
}

fn fail(throttle: &mut Kept, who: &str, from: u32, now: i64) {
    let _ = throttle.failed(name(who), place(from), at(now));
}

#[test]
fn the_example_of_the_specification() {
    let mut throttle = Kept::default();
    for second in 0..10 {
        assert_eq!(refused_by(&throttle, "dana", 1, second), None);
        fail(&mut throttle, "Dana ", 1, second);
    }
    assert_eq!(
        refused_by(&throttle, "dana", 1, 10),
        Some((1199, Counter::Pair))
    );
    // A refused try is not verified: the right password does not help from there.
    assert!(refused_by(&throttle, "dana", 1, 600).is_some());
    assert_eq!(refused_by(&throttle, "dana", 2, 600), None);
    assert_eq!(
        refused_by(&throttle, "dana", 1, 1208),
        Some((1, Counter::Pair))
    );
    assert_eq!(refused_by(&throttle, "dana", 1, 1209), None);
}

#[test]
fn the_window_is_900_seconds() {
    let mut throttle = Kept::default();
    for second in [0, 100, 100, 100, 100, 100, 100, 100, 100] {
        fail(&mut throttle, "dana", 1, second);
    }
    fail(&mut throttle, "dana", 1, 900); // the first one is just out of the window
    assert_eq!(refused_by(&throttle, "dana", 1, 900), None);
    fail(&mut throttle, "dana", 1, 901);
    assert_eq!(
        refused_by(&throttle, "dana", 1, 901),
        Some((1200, Counter::Pair))
    );
    // What was under way does not prolong it.
    fail(&mut throttle, "dana", 1, 902);
    assert_eq!(
        refused_by(&throttle, "dana", 1, 902),
        Some((1199, Counter::Pair))
    );
}

#[test]
fn success_clears_the_first_counter_only() {
    let mut throttle = Kept::default();
    for _ in 0..9 {
        fail(&mut throttle, "dana", 1, 0);
    }
    let changes = throttle.succeeded(name("dana"), place(1), at(1));
    assert_eq!(
        changes[0],
        Change::Delete(Key::Pair(name("dana"), place(1)))
    );
    for _ in 0..9 {
        fail(&mut throttle, "dana", 1, 2);
    }
    assert_eq!(refused_by(&throttle, "dana", 1, 2), None);
    let rows: Vec<Row> = throttle.rows().collect();
    let of = |key: Key| rows.iter().find(|row| row.key == key).unwrap();
    assert_eq!(of(Key::Name(name("dana"))).failures_ms.len(), 18);
    assert_eq!(of(Key::Prefix(place(1))).failures_ms.len(), 18);
}

#[test]
fn a_name_is_refused_from_strange_places_only() {
    let mut throttle = Kept::default();
    let _ = throttle.succeeded(name("dana"), place(7), at(-1000));
    for n in 0..100 {
        fail(&mut throttle, "dana", 100 + n, i64::from(n));
    }
    assert_eq!(
        refused_by(&throttle, "DANA", 8, 100),
        Some((899, Counter::Name))
    );
    assert_eq!(refused_by(&throttle, "dana", 7, 100), None);
    assert_eq!(refused_by(&throttle, "erin", 8, 100), None);
    // At a known place the first counter still counts.
    for _ in 0..10 {
        fail(&mut throttle, "dana", 7, 200);
    }
    assert_eq!(
        refused_by(&throttle, "dana", 7, 200),
        Some((1200, Counter::Pair))
    );
    assert_eq!(refused_by(&throttle, "dana", 8, 99 + 900), None);
}

#[test]
fn places_are_known_for_thirty_days() {
    let mut throttle = Kept::default();
    let _ = throttle.succeeded(name("dana"), place(7), at(0));
    let day = 86_400;
    assert!(throttle.is_known(name("dana"), place(7), at(30 * day - 1)));
    assert!(!throttle.is_known(name("dana"), place(7), at(30 * day)));
    assert_eq!(
        throttle.expire(at(30 * day)),
        [Change::Delete(Key::Known(name("dana"), place(7)))]
    );
}

#[test]
fn a_prefix_is_refused_while_100_lie_in_the_window() {
    let mut throttle = Kept::default();
    for n in 0..100 {
        fail(&mut throttle, &format!("user-{n}"), 1, n);
    }
    assert_eq!(
        refused_by(&throttle, "somebody", 1, 99),
        Some((801, Counter::Prefix))
    );
    assert_eq!(
        refused_by(&throttle, "somebody", 1, 899),
        Some((1, Counter::Prefix))
    );
    assert_eq!(refused_by(&throttle, "somebody", 1, 900), None);
    fail(&mut throttle, "somebody", 1, 900);
    assert_eq!(
        refused_by(&throttle, "somebody", 1, 900),
        Some((1, Counter::Prefix))
    );
    assert_eq!(refused_by(&throttle, "somebody", 2, 900), None);
}

#[test]
fn codes_are_counted_by_person() {
    let mut throttle = Kept::default();
    let (dana, erin) = (UserId::new(1), UserId::new(2));
    for second in 0..10 {
        assert!(throttle.try_code(dana, at(second)).is_ok());
        let changes = throttle.code_failed(dana, at(second));
        assert_eq!(changes.len(), 1);
    }
    let refused = throttle.try_code(dana, at(10)).unwrap_err();
    assert_eq!((refused.retry_after_s, refused.by), (899, Counter::Code));
    assert!(throttle.try_code(erin, at(10)).is_ok());
    assert!(throttle.try_code(dana, at(909)).is_ok());
}

#[test]
fn unblock_clears_all_of_a_person() {
    let mut throttle = Kept::default();
    let dana = UserId::new(1);
    for n in 0..100 {
        fail(&mut throttle, "dana", n, 0);
        fail(&mut throttle, "dana@lab.example", 500, 0);
        let _ = throttle.code_failed(dana, at(0));
    }
    assert!(refused_by(&throttle, "dana", 999, 1).is_some());
    let names = [name("dana"), name("dana@lab.example")];
    let changes = throttle.unblock(dana, &names);
    assert_eq!(changes.len(), 100 + 1 + 1 + 1 + 1);
    assert_eq!(refused_by(&throttle, "dana", 999, 1), None);
    assert!(throttle.try_code(dana, at(1)).is_ok());
    // The prefix is of others too and stays refused.
    assert_eq!(
        refused_by(&throttle, "dana@lab.example", 500, 1),
        Some((899, Counter::Prefix))
    );
}

#[test]
fn a_restart_clears_nothing() {
    let mut throttle = Kept::default();
    let mut stored: BTreeMap<Key, Row> = BTreeMap::new();
    let mut store = |changes: Vec<Change>| {
        for change in changes {
            match change {
                Change::Put(row) => {
                    let json = serde_json::to_string(&row).unwrap();
                    let row: Row = serde_json::from_str(&json).unwrap();
                    stored.insert(row.key, row);
                }
                Change::Delete(key) => {
                    stored.remove(&key);
                }
            }
        }
    };
    store(throttle.succeeded(name("dana"), place(2), at(0)));
    for n in 0..100 {
        store(throttle.failed(name("dana"), place(n / 10 + 10), at(i64::from(n))));
    }
    store(throttle.code_failed(UserId::new(5), at(3)));
    let loaded = Kept::load(Capacity::default(), stored.values().cloned(), at(100));
    let rows = |throttle: &Throttle| throttle.rows().collect::<Vec<_>>();
    assert_eq!(rows(&loaded), rows(&throttle));
    assert_eq!(
        refused_by(&loaded, "dana", 10, 100),
        Some((1109, Counter::Pair))
    );
    assert_eq!(refused_by(&loaded, "dana", 2, 100), None);
    assert_eq!(
        refused_by(&loaded, "dana", 3, 100),
        Some((899, Counter::Name))
    );
    // Rows that count for nothing any more are left out.
    let late = Kept::load(Capacity::default(), stored.into_values(), at(2000));
    assert_eq!(rows(&late).len(), 1);
}

#[test]
fn a_clock_set_back_locks_nobody_out_for_long() {
    let mut throttle = Kept::default();
    for _ in 0..10 {
        fail(&mut throttle, "dana", 1, 1_000_000);
    }
    assert_eq!(refused_by(&throttle, "dana", 1, 0), None);
    let soon = refused_by(&throttle, "dana", 1, 1_000_000 - 600);
    assert_eq!(soon, Some((1200, Counter::Pair)));
}

#[test]
fn prefixes_of_addresses() {
    let of = |text: &str| Prefix::of(text.parse().unwrap()).to_string();
    assert_eq!(of("192.0.2.77"), "192.0.2.0/24");
    assert_eq!(of("::ffff:192.0.2.77"), "192.0.2.0/24");
    assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    assert_eq!(of("::1"), "::/64");
}

#[test]
fn keys_print_and_read_back() {
    let v6 = Prefix::of("2001:db8::7".parse().unwrap());
    for key in [
        Key::Pair(name("dana"), place(70_000)),
        Key::Known(name("dana"), v6),
        Key::Name(name("")),
        Key::Prefix(v6),
        Key::Code(UserId::new(u128::MAX)),
    ] {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    for bad in [
        "",
        "name x",
        "prefix 192.0.2.7/24",
        "prefix 192.0.2.0/64",
        "prefix ::ffff:1.2.3.0/24",
        "code 1",
        "pair 00000000000000000000000000000000 ::/64 x",
        "name ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ",
    ] {
        assert_eq!(bad.parse::<Key>(), Err(ParseKeyError), "{bad}");
    }
}

fn small() -> Capacity {
    Capacity {
        pairs: 64,
        names: 64,
        prefixes: 64,
        known: 64,
        codes: 64,
    }
}

#[test]
fn a_flood_of_names_and_places_pushes_out_no_protection() {
    let mut throttle = Kept::new(small());
    let mut stored: BTreeMap<Key, Row> = BTreeMap::new();
    let mut apply = |changes: Vec<Change>| {
        for change in changes {
            match change {
                Change::Put(row) => stored.insert(row.key, row),
                Change::Delete(key) => stored.remove(&key),
            };
        }
    };
    apply(throttle.succeeded(name("dana"), place(7), at(0)));
    // A guesser who is refused, and one who is not yet.
    for _ in 0..10 {
        apply(throttle.failed(name("dana"), place(1), at(0)));
    }
    for _ in 0..5 {
        apply(throttle.failed(name("erin"), place(2), at(0)));
    }
    for n in 0..3000_u32 {
        let who = format!("flood-{n}");
        apply(throttle.failed(name(&who), place(1000 + n), at(1 + i64::from(n) / 15)));
        for table in [
            throttle.pairs.of.len(),
            throttle.names.of.len(),
            throttle.prefixes.of.len(),
        ] {
            assert!(table <= 64);
        }
    }
    let now = 201;
    assert_eq!(
        refused_by(&throttle, "dana", 1, now),
        Some((999, Counter::Pair))
    );
    assert_eq!(
        throttle.pairs.of[&(name("erin"), place(2))].failures.len(),
        5
    );
    assert_eq!(throttle.names.of[&name("dana")].failures.len(), 10);
    assert!(throttle.is_known(name("dana"), place(7), at(now)));
    // What is stored is what is held.
    let held: BTreeMap<Key, Row> = throttle.rows().map(|row| (row.key, row)).collect();
    assert_eq!(stored, held);
}

#[test]
fn what_refuses_goes_last_and_one_at_a_time() {
    let mut throttle = Kept::new(small());
    for n in 0..64 {
        for _ in 0..10 {
            fail(&mut throttle, "dana", n, i64::from(n));
        }
    }
    fail(&mut throttle, "erin", 500, 70);
    assert_eq!(throttle.pairs.of.len(), 64);
    assert_eq!(
        throttle.pairs.refuses(&(name("dana"), place(0)), at(70)),
        None
    );
    assert!(
        throttle
            .pairs
            .refuses(&(name("dana"), place(1)), at(70))
            .is_some()
    );
    // The next one takes the place of the one that does not refuse.
    fail(&mut throttle, "fay", 501, 71);
    assert!(!throttle.pairs.of.contains_key(&(name("erin"), place(500))));
    assert!(
        throttle
            .pairs
            .refuses(&(name("dana"), place(1)), at(71))
            .is_some()
    );
}

#[test]
fn who_has_many_places_takes_none_from_others() {
    let mut throttle = Kept::new(small());
    let _ = throttle.succeeded(name("dana"), place(7), at(0));
    for n in 0..1000 {
        let changes = throttle.succeeded(name("mallory"), place(n), at(1 + i64::from(n)));
        assert!(changes.len() <= 2);
    }
    assert!(throttle.is_known(name("dana"), place(7), at(2000)));
    assert_eq!(throttle.known.len(), 1 + KNOWN_PER_NAME);
    for n in 0..1000 {
        let _ = throttle.succeeded(name(&format!("u{n}")), place(n), at(3000 + i64::from(n)));
        assert!(throttle.known.len() <= 64);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Fail(u8, u32),
    Succeed(u8, u32),
    Code(u8),
    Unblock(u8),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0_u8..4, 0_u32..40).prop_map(|(who, from)| Step::Fail(who, from)),
        2 => (0_u8..4, 0_u32..40).prop_map(|(who, from)| Step::Succeed(who, from)),
        2 => (0_u8..4).prop_map(Step::Code),
        1 => (0_u8..4).prop_map(Step::Unblock),
        1 => Just(Step::Expire),
    ]
}

fn key(who: u8) -> NameKey {
    NameKey::of(&who.to_string())
}

/// The rules as written, over a list of all that happened.
#[derive(Default)]
struct Naive {
    failures: Vec<(NameKey, Prefix, i64)>,
    pair_since: BTreeMap<(NameKey, Prefix), i64>,
    name_since: BTreeMap<NameKey, i64>,
}

impl Naive {
    fn count(&self, now: i64, of: impl Fn(NameKey, Prefix) -> bool) -> usize {
        let live = |at: i64| now - at < 900;
        let all = self.failures.iter();
        all.filter(|(n, p, at)| live(*at) && of(*n, *p)).count()
    }

    fn failed(&mut self, n: NameKey, p: Prefix, cleared: i64, now: i64) {
        self.failures.push((n, p, now));
        let of_pair = self
            .failures
            .iter()
            .filter(|(m, q, at)| (*m, *q) == (n, p) && now - at < 900 && *at >= cleared)
            .count();
        if of_pair >= 10
            && self
                .pair_since
                .get(&(n, p))
                .is_none_or(|at| now - at >= 1200)
        {
            self.pair_since.insert((n, p), now);
        }
        if self.count(now, |m, _| m == n) >= 100
            && self.name_since.get(&n).is_none_or(|at| now - at >= 900)
        {
            self.name_since.insert(n, now);
        }
    }

    fn refuses(&self, n: NameKey, p: Prefix, known: bool, now: i64) -> bool {
        let pair = self
            .pair_since
            .get(&(n, p))
            .is_some_and(|at| now - at < 1200);
        let name = self.name_since.get(&n).is_some_and(|at| now - at < 900);
        pair || (name && !known) || self.count(now, |_, q| q == p) >= 100
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_known_place_is_never_refused_by_the_name(
        steps in proptest::collection::vec((step(), 0_i64..20), 1..600),
    ) {
        let mut throttle = Kept::default();
        let mut now = 0;
        for (step, ahead) in steps {
            now += ahead;
            let _ = match step {
                // Refused tries are counted here too: the worst that can be under way.
                Step::Fail(who, from) => throttle.failed(key(who), place(from), at(now)),
                Step::Succeed(who, from) => throttle.succeeded(key(who), place(from), at(now)),
                Step::Code(who) => throttle.code_failed(UserId::new(who.into()), at(now)),
                Step::Unblock(who) => throttle.unblock(UserId::new(who.into()), &[key(who)]),
                Step::Expire => throttle.expire(at(now)),
            };
            for ((n, p), _) in throttle.known.clone() {
                let by = throttle.try_login(n, p, at(now)).err().map(|r| r.by);
                prop_assert_ne!(by, Some(Counter::Name));
            }
        }
    }

    #[test]
    fn the_same_as_a_list_of_all_that_happened(
        steps in proptest::collection::vec((0_u8..3, 0_u32..20, 0_i64..6, any::<u8>()), 1..800),
    ) {
        let (mut throttle, mut naive, mut now) = (Kept::default(), Naive::default(), 0);
        let mut cleared: BTreeMap<(NameKey, Prefix), i64> = BTreeMap::new();
        for (who, from, ahead, luck) in steps {
            now += ahead * i64::from(luck % 3);
            let (n, p) = (key(who), place(from));
            let known = throttle.is_known(n, p, at(now));
            let passes = throttle.try_login(n, p, at(now)).is_ok();
            prop_assert_eq!(passes, !naive.refuses(n, p, known, now));
            if !passes {
                continue;
            }
            if luck == 0 {
                // So that what was before a success in the same second is not mixed up.
                now += 1;
                let _ = throttle.succeeded(n, p, at(now));
                cleared.insert((n, p), now);
            } else {
                let _ = throttle.failed(n, p, at(now));
                naive.failed(n, p, cleared.get(&(n, p)).copied().unwrap_or(0), now);
            }
            if luck == 1 {
                let rows: Vec<Row> = throttle.rows().collect();
                throttle = Kept::load(Capacity::default(), rows, at(now));
            }
        }
    }

    #[test]
    fn nothing_panics_and_memory_is_bounded(
        login in any::<String>(),
        text in any::<String>(),
        bytes in any::<[u8; 16]>(),
        times in proptest::collection::vec(any::<i64>(), 0..200),
        since in any::<Option<i64>>(),
        now in any::<i64>(),
        capacity in 0_usize..3,
    ) {
        let _ = text.parse::<Key>();
        let (n, p, user) = (NameKey::of(&login), Prefix::of(IpAddr::from(bytes)), UserId::new(7));
        let now = Timestamp(now);
        let keys = [Key::Pair(n, p), Key::Name(n), Key::Prefix(p), Key::Code(user), Key::Known(n, p)];
        let rows = keys.map(|key| Row { key, failures_ms: times.clone(), since_ms: since });
        let most = Capacity { pairs: capacity, names: capacity, prefixes: capacity, known: capacity, codes: capacity };
        let mut throttle = Kept::load(most, rows, now);
        let _ = throttle.failed(n, p, now);
        let _ = throttle.code_failed(user, now);
        let _ = throttle.succeeded(n, p, now);
        for verdict in [throttle.try_login(n, p, now), throttle.try_code(user, now)] {
            prop_assert!(verdict.err().is_none_or(|r| (1..=1200).contains(&r.retry_after_s)));
        }
        prop_assert!(throttle.rows().all(|row| row.failures_ms.len() <= 100));
        let _ = throttle.expire(now);
        let _ = throttle.unblock(user, &[n]);
    }
}

#[test]
fn other_limits_hold_at_once() {
    let mut kept = Kept::default();
    let (name, place) = (NameKey::of("dana"), Prefix::of([192, 0, 2, 1].into()));
    for second in 0..4 {
        kept.failed(name, place, at(second));
    }
    assert!(kept.try_login(name, place, at(4)).is_ok());
    kept.0.set_limits(Limits {
        failures: 5,
        block_s: 60,
        ..Limits::default()
    });
    kept.failed(name, place, at(4));
    let refused = kept.try_login(name, place, at(5)).unwrap_err();
    assert_eq!((refused.by, refused.retry_after_s), (Counter::Pair, 59));
    assert!(kept.try_login(name, place, at(64)).is_ok());
    // Five failures of any name are too many from here, and count for a minute.
    kept.0.set_limits(Limits {
        source_failures: 5,
        window_s: 60,
        ..Limits::default()
    });
    let other = NameKey::of("joe");
    let refused = kept.try_login(other, place, at(10)).unwrap_err();
    assert_eq!((refused.by, refused.retry_after_s), (Counter::Prefix, 50));
    assert!(kept.try_login(other, place, at(60)).is_ok());
    // By the limits from before nothing of it was lost.
    kept.0.set_limits(Limits::default());
    assert_eq!(kept.rows().map(|row| row.failures_ms.len()).max(), Some(5));
}
