use super::*;
use longshore_identity::Sha256;
use proptest::prelude::*;

/// Bytes that differ with each call and are the same in each run.
fn counting() -> impl FnMut(&mut [u8]) {
    let mut next = 0_u64;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = next.to_be_bytes()[0];
        }
    }
}

fn key(seed: u8) -> MasterKey {
    let mut next = seed;
    MasterKey::draw(&mut |bytes: &mut [u8]| {
        for byte in bytes {
            *byte = next;
            next = next.wrapping_add(7);
        }
    })
}

const PLACE: Place<'static> = Place {
    table: "vaults",
    row: "vlt_1",
    column: "content",
    version: 3,
};

#[test]
fn what_was_sealed_opens_in_its_place_alone() {
    let ring = Keyring::new(key(1), Vec::new());
    let sealed = ring.seal(&PLACE, b"s3cret", &mut counting()).unwrap();
    assert_eq!(sealed.key_id, key(1).id());
    assert_eq!(*ring.open(&PLACE, &sealed).unwrap(), b"s3cret");
    let elsewhere = [
        Place {
            table: "users",
            ..PLACE
        },
        Place {
            row: "vlt_2",
            ..PLACE
        },
        Place {
            column: "name",
            ..PLACE
        },
        Place {
            version: 4,
            ..PLACE
        },
        // The same letters, cut elsewhere.
        Place {
            table: "vaultsvlt_1",
            row: "",
            ..PLACE
        },
    ];
    for place in elsewhere {
        assert_eq!(ring.open(&place, &sealed), Err(OpenError::Damaged));
    }
    // What was taken from another value does not open this one.
    let other = ring.seal(&PLACE, b"s3cret", &mut |b| b.fill(9)).unwrap();
    let mixed = Sealed {
        wrapped: other.wrapped,
        ..sealed
    };
    assert_eq!(ring.open(&PLACE, &mixed), Err(OpenError::Damaged));
}

#[test]
fn without_its_key_it_stays_shut_and_the_key_is_named() {
    let ring = Keyring::new(key(1), Vec::new());
    let sealed = ring.seal(&PLACE, b"s3cret", &mut counting()).unwrap();
    let lacking = Locked {
        key_id: key(1).id().to_owned(),
    };
    for shut in [Keyring::none(), Keyring::new(key(2), Vec::new())] {
        let locked = OpenError::Locked(lacking.clone());
        assert_eq!(shut.open(&PLACE, &sealed), Err(locked.clone()));
        assert!(shut.rewrap(&sealed, &mut counting()).is_err());
    }
    let none = Keyring::none();
    assert_eq!(none.present().unwrap_err().key_id, "");
    assert_eq!(
        none.hold_against([sealed.key_id.as_str()]),
        Some(sealed.key_id.clone())
    );
    assert_eq!(
        none.seal(&PLACE, b"x", &mut counting()),
        Err(lacking.clone())
    );
    // Nor is anything sealed by a key that is not the one of what is stored.
    let wrong = Keyring::new(key(2), Vec::new());
    assert!(wrong.seal(&PLACE, b"x", &mut counting()).is_ok());
    assert!(wrong.hold_against([sealed.key_id.as_str()]).is_some());
    assert_eq!(wrong.seal(&PLACE, b"x", &mut counting()), Err(lacking));
    let both = Keyring::new(key(2), vec![key(1)]);
    assert_eq!(both.hold_against([sealed.key_id.as_str()]), None);
    assert_eq!(*both.open(&PLACE, &sealed).unwrap(), b"s3cret");
}

#[test]
fn a_new_master_key_leaves_the_value_as_it_is() {
    let ring = Keyring::new(key(1), Vec::new());
    let mut rng = counting();
    let sealed = ring.seal(&PLACE, b"s3cret", &mut rng).unwrap();
    assert_eq!(ring.rewrap(&sealed, &mut rng), Ok(None));
    let handle = ring.clone();
    handle.begin_with(key(2));
    assert_eq!(ring.present().unwrap(), key(2).id());
    let new = ring.rewrap(&sealed, &mut rng).unwrap().unwrap();
    assert_eq!((&new.body, new.nonce), (&sealed.body, sealed.nonce));
    assert_ne!(new.wrapped, sealed.wrapped);
    let alone = Keyring::new(key(2), Vec::new());
    assert_eq!(*alone.open(&PLACE, &new).unwrap(), b"s3cret");
    // Given once more it changes nothing, and going back is a change like any other.
    ring.begin_with(key(2));
    assert_eq!(ring.ids(), [key(2).id(), key(1).id()]);
    ring.begin_with(key(1));
    assert_eq!(ring.ids(), [key(1).id(), key(2).id()]);
}

#[test]
fn a_master_key_reads_as_it_was_written() {
    let key = key(5);
    let text = format!("{}\n", *key.expose());
    let read = MasterKey::parse(&text).unwrap();
    assert_eq!((read.id(), read.bytes()), (key.id(), key.bytes()));
    assert_eq!(read.id(), &Sha256::of(key.bytes()).to_string()[..8]);
    assert!(!format!("{key:?}").contains(text.trim()));
    for (text, error) in [
        ("", KeyError::Form),
        ("c2hvcnQ=", KeyError::Form),
        ("?", KeyError::Form),
        (
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            KeyError::Sample,
        ),
    ] {
        assert_eq!(MasterKey::parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn the_first_source_counts_and_a_key_that_others_may_read_stops_the_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let credentials = dir.path().join("credentials");
    std::fs::create_dir(&data_dir).unwrap();
    std::fs::create_dir(&credentials).unwrap();
    let write = |path: &std::path::Path, key: &MasterKey, mode: u32| {
        std::fs::write(path, key.expose().as_bytes()).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let file = dir.path().join("master.key");
    let value = longshore_identity::Secret::new(key(3).expose().to_string());
    let mut sources = Sources {
        file: file.clone(),
        data_dir: data_dir.clone(),
        ..Sources::default()
    };
    let first = |sources: &Sources| sources.ring().map(|ring| ring.ids());
    assert_eq!(first(&sources), Ok(Vec::new()));
    sources.value = Some(value);
    assert_eq!(first(&sources), Ok(vec![key(3).id().to_owned()]));
    write(&file, &key(2), 0o400);
    assert_eq!(first(&sources), Ok(vec![key(2).id().to_owned()]));
    sources.credentials = Some(credentials.clone());
    assert_eq!(first(&sources), Ok(vec![key(2).id().to_owned()]));
    write(&credentials.join("longshore.master-key"), &key(1), 0o440);
    sources.previous = vec![file.clone()];
    assert_eq!(
        first(&sources),
        Ok(vec![key(1).id().to_owned(), key(2).id().to_owned()])
    );
    sources.credentials = None;
    for mode in [0o440, 0o404, 0o644] {
        write(&file, &key(2), mode);
        assert!(first(&sources).unwrap_err().contains("chmod 0400"));
    }
    write(&file, &key(2), 0o400);
    sources.previous = vec![dir.path().join("none")];
    assert!(first(&sources).unwrap_err().contains("is not there"));
    sources.previous = Vec::new();
    sources.file = data_dir.join("master.key");
    write(&sources.file, &key(2), 0o400);
    assert!(first(&sources).unwrap_err().contains("data directory"));
}

proptest! {
    #[test]
    fn any_value_comes_back_and_stands_nowhere_in_the_bytes(clear in prop::collection::vec(any::<u8>(), 8..400), row in ".{0,20}", version: u64) {
        let ring = Keyring::new(key(1), Vec::new());
        let place = Place { row: &row, version, ..PLACE };
        let bytes = ring.seal(&place, &clear, &mut counting()).unwrap().to_bytes();
        prop_assert!(!bytes.windows(clear.len()).any(|part| part == clear));
        let read = Sealed::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&*ring.open(&place, &read).unwrap(), &clear);
    }

    #[test]
    fn one_bit_that_differs_is_told(clear in prop::collection::vec(any::<u8>(), 0..64), at: prop::sample::Index, bit in 0..8_u32) {
        let ring = Keyring::new(key(1), Vec::new());
        let mut bytes = ring.seal(&PLACE, &clear, &mut counting()).unwrap().to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let opened = Sealed::from_bytes(&bytes).map(|sealed| ring.open(&PLACE, &sealed));
        prop_assert!(!matches!(opened, Ok(Ok(_))));
    }

    #[test]
    fn bytes_of_anybody_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(sealed) = Sealed::from_bytes(&bytes) {
            prop_assert_eq!(sealed.to_bytes(), bytes);
        }
    }
}
