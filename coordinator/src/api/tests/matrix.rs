//! Every route with every kind of caller: who comes in at all.
//!
//! `matrix.txt` is what the specified table comes to for the routes there are. It is read by
//! people: a cell that changes shows in the difference.

use super::{Fixture, example, fixture_with};
use crate::api::OPERATIONS;
use crate::pki::sha256;
use axum::body::Body;
use longshore_common::ids::{DomainId, ProjectId, UserId};
use longshore_common::time::Timestamp;
use longshore_core::access::Column;
use longshore_core::model::{Change, Keypair, Membership, Role, Service, User};

const SECRET: &str = "secret";
const FILE: &str = "src/api/tests/matrix.txt";

/// Somebody of each column, with a keypair named after it.
fn people() -> Vec<Change> {
    let mut changes = Vec::new();
    for (number, column) in (100..).zip(Column::ALL) {
        let name = access_name(column);
        let role = match column {
            Column::Anonymous => continue,
            Column::User | Column::ProjectAdmin | Column::ServiceAccount => Role::User,
            Column::Monitor => Role::Monitor,
            Column::DomainAdmin => Role::DomainAdmin,
            Column::Superadmin => Role::Superadmin,
        };
        let account = column == Column::ServiceAccount;
        let user = User {
            email: if account {
                String::new()
            } else {
                format!("{name}@lab.example")
            },
            username: name,
            role,
            domain: DomainId::new(10),
            projects: vec![Membership {
                admin: column == Column::ProjectAdmin,
                ..Membership::manual(ProjectId::new(11))
            }],
            service: account.then(Service::default),
            ..User::new(UserId::new(number), Timestamp(1))
        };
        let key = access_key(column);
        let pair = Keypair::new(&key, sha256(SECRET.as_bytes()), user.id, Timestamp(1));
        changes.push(Change::User(Box::new(user)));
        changes.push(Change::Keypair(pair));
    }
    changes
}

fn access_key(column: Column) -> String {
    let text = column.to_string().replace(' ', "").to_uppercase();
    format!("LS{text}")
}

async fn ready() -> Fixture {
    let f = fixture_with(None, true, people()).await;
    f.start(None).await;
    f
}

/// Whether a caller comes in: past what is refused whatever the object.
async fn comes_in(f: &Fixture, column: Column, method: &str, path: &str) -> bool {
    let bearer = match column {
        Column::Anonymous => String::new(),
        _ => format!("Bearer {}.{SECRET}", access_key(column)),
    };
    let headers = [("authorization", bearer.as_str())];
    let answer = f.send(method, path, &headers, Body::empty()).await;
    match answer.status.as_u16() {
        401 | 403 => {
            let code = answer.code();
            let door = ["LS-AUTH-REQUIRED", "LS-FORBIDDEN", "LS-READ-ONLY"];
            assert!(
                door.contains(&code.as_str()),
                "{method} {path} {column}: {code}"
            );
            false
        }
        _ => true,
    }
}

#[tokio::test]
async fn each_route_lets_in_who_the_table_says() {
    let f = ready().await;
    let columns = Column::ALL.map(|c| c.to_string()).join(" | ");
    let mut text = format!("route | operation | {columns}\n");
    for operation in OPERATIONS {
        let (method, path) = (operation.method.as_str(), example(operation));
        let mut cells = Vec::new();
        // The most powerful last: what it does to the others is of no interest here.
        for column in Column::ALL {
            let rights = match column {
                Column::Anonymous => None,
                _ => {
                    let id = f.app.identity.user_by_ref(&access_name(column));
                    id.and_then(|id| f.app.identity.account_of(id))
                }
            };
            let said = match &rights {
                None => operation.is_open(),
                Some(account) => operation.is_open() || operation.admits(&account.rights).is_ok(),
            };
            let came = comes_in(&f, column, method, &path).await;
            assert!(said || !came, "{} lets {column} in", operation.id);
            // Past the door, but not to what an empty body stands for.
            cells.push(match (said, came) {
                (_, true) => "yes",
                (true, false) => "not this",
                (false, false) => "-",
            });
        }
        let does = operation.does();
        text += &format!(
            "{method} {} | {does} | {}\n",
            operation.path,
            cells.join(" | ")
        );
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        known == text,
        "{FILE} differs from what the routes do; write it anew with UPDATE=1 and look at the difference"
    );
}

fn access_name(column: Column) -> String {
    format!("m-{}", column.to_string().replace(' ', "-"))
}
