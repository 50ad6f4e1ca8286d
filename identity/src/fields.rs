//! What may be stored about a person or a group.
//!
//! All violations of a request come in one answer, in the order in which its members are
//! listed here; what depends on stored people (somebody has that address, no such
//! domain) is the caller's, with the messages in [`messages`].

use crate::Secret;
use longshore_common::api::MemberError;
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// Longest email, username, full name, group name and label, in Unicode scalar values.
pub const SHORT_TEXT: usize = 64;
/// Longest description, in Unicode scalar values.
pub const LONG_TEXT: usize = 500;
/// Shortest password, in Unicode scalar values.
pub const PASSWORD_MIN: usize = 8;
/// Longest password, in Unicode scalar values.
pub const PASSWORD_MAX: usize = 128;
/// What a person can be; the last is the default.
pub const ROLES: [&str; 4] = ["superadmin", "domain-admin", "monitor", "user"];

/// Texts of refusals, word for word.
pub mod messages {
    /// An update names another address than the stored one (`LS-FIELD-FIXED`).
    pub const EMAIL_FIXED: &str = "Email cannot be changed.";
    /// A new password equals the current one.
    pub const PASSWORD_SAME: &str = "The new password must differ from the current one.";

    /// 409: the address is taken, by whomever.
    #[must_use]
    pub fn email_exists(email: &str) -> String {
        format!("A user with email {email} already exists.")
    }

    /// 409: the user name is taken.
    #[must_use]
    pub fn username_exists(username: &str) -> String {
        format!("A user with username {username} already exists.")
    }

    /// 409: the user name is another's address, or the address another's user name.
    #[must_use]
    pub fn login_name_taken(value: &str) -> String {
        format!("{value} is already a login name of another user.")
    }

    /// No such domain.
    #[must_use]
    pub fn domain_unknown(name: &str) -> String {
        format!("Domain {name} does not exist.")
    }

    /// The domain is switched off.
    #[must_use]
    pub fn domain_inactive(name: &str) -> String {
        format!("Domain {name} is inactive.")
    }

    /// The project is of another domain, or of none.
    #[must_use]
    pub fn project_not_in_domain(project: &str, domain: &str) -> String {
        format!("Project {project} is not in domain {domain}.")
    }
}

/// Unicode NFC (UAX #15). What passwords are brought to before they are checked, hashed
/// or compared: the same keys give other code points on other machines.
#[must_use]
pub fn nfc(text: &str) -> String {
    text.nfc().collect()
}

/// NFC without outer white space: the form in which text is checked, stored and compared.
#[must_use]
pub fn clean(text: &str) -> String {
    nfc(text.trim()).trim().to_owned()
}

/// The form in which names are compared without regard to case. It is not shown.
#[must_use]
pub fn fold(text: &str) -> String {
    // Upper case in between brings together what has two small forms (ς and σ) or a
    // capital of two letters (ß), which one step of lower case leaves apart.
    let wide: String = clean(text)
        .chars()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .collect();
    nfc(&wide)
        .chars()
        .flat_map(char::to_lowercase)
        .nfc()
        .collect()
}

fn longer_than(text: &str, limit: usize) -> bool {
    text.chars().nth(limit).is_some()
}

/// What is wrong with an address; empty when nothing is. `email` is clean ([`clean`]).
///
/// The form is deliberately narrow: ASCII, one `@`, a domain of letters, digits and `-`.
#[must_use]
pub fn email(email: &str) -> Vec<&'static str> {
    if email.is_empty() {
        return vec!["Email is required."];
    }
    let mut found = Vec::new();
    if longer_than(email, SHORT_TEXT) {
        found.push("Email must be at most 64 characters.");
    }
    let label = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let good = email.bytes().all(|b| b.is_ascii_graphic())
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.contains('@') && domain.split('.').all(label)
        });
    if !good {
        found.push("Email is not a valid address.");
    }
    found
}

/// What is wrong with the name of a user or service account. `name` is clean.
#[must_use]
pub fn username(name: &str) -> Vec<&'static str> {
    let Some(first) = name.bytes().next() else {
        return vec!["Username must not be empty."];
    };
    let mut found = Vec::new();
    if longer_than(name, SHORT_TEXT) {
        found.push("Username must be at most 64 characters.");
    }
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
    if !first.is_ascii_alphanumeric() || !name.bytes().all(inside) {
        found.push(
            "Username may contain only letters, digits and . _ @ + - and must start with a letter or digit.",
        );
    }
    found
}

/// What is wrong with a password that is to be set, for a person of this address and name.
///
/// Letters are Unicode category L, digits Nd, control characters Cc; everything else is a
/// special character, a space too.
#[must_use]
pub fn password(password: &str, email: &str, username: &str) -> Vec<&'static str> {
    let text = nfc(password);
    let (mut letter, mut digit, mut control, mut special) = (false, false, false, false);
    // What is longer than allowed is refused for that; the rest of it is still looked at,
    // in one pass, so that the answer names everything.
    let mut length = 0_usize;
    for c in text.chars() {
        length += 1;
        if c.general_category_group() == GeneralCategoryGroup::Letter {
            letter = true;
        } else if c.general_category() == GeneralCategory::DecimalNumber {
            digit = true;
        } else if c.is_control() {
            control = true;
        } else {
            special = true;
        }
    }
    let same = |name: &str| !name.is_empty() && fold(name) == fold(&text);
    let rules = [
        (
            length < PASSWORD_MIN,
            "Password must have at least 8 characters.",
        ),
        (
            length > PASSWORD_MAX,
            "Password must have at most 128 characters.",
        ),
        (!letter, "Password must contain a letter."),
        (!digit, "Password must contain a digit."),
        (!special, "Password must contain a special character."),
        (control, "Password must not contain control characters."),
        (
            same(email) || same(username),
            "Password must not be the same as the email or the username.",
        ),
    ];
    rules
        .into_iter()
        .filter_map(|(broken, message)| broken.then_some(message))
        .collect()
}

/// What is wrong with a full name, if anything. It may be empty.
#[must_use]
pub fn full_name(name: &str) -> Option<&'static str> {
    longer_than(name, SHORT_TEXT).then_some("Full name must be at most 64 characters.")
}

/// What is wrong with a description, if anything. It may be empty.
#[must_use]
pub fn description(text: &str) -> Option<&'static str> {
    longer_than(text, LONG_TEXT).then_some("Description must be at most 500 characters.")
}

/// What is wrong with the name of a role, if anything.
#[must_use]
pub fn role(name: &str) -> Option<&'static str> {
    (!ROLES.contains(&name)).then_some("Role must be superadmin, domain-admin, monitor or user.")
}

/// What is wrong with the name of a user group. `name` is clean.
#[must_use]
pub fn group_name(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["Group name must not be empty."];
    }
    let mut found = Vec::new();
    if longer_than(name, SHORT_TEXT) {
        found.push("Group name must be at most 64 characters.");
    }
    if name.chars().any(char::is_control) {
        found.push("Group name must not contain control characters.");
    }
    found
}

/// What is wrong with the label of a keypair, if anything. It may be empty.
#[must_use]
pub fn label(text: &str) -> Option<&'static str> {
    longer_than(text, SHORT_TEXT).then_some("Label must be at most 64 characters.")
}

/// Messages about one member of a request.
#[must_use]
pub fn at(
    pointer: &str,
    messages: impl IntoIterator<Item = impl Into<String>>,
) -> Vec<MemberError> {
    messages
        .into_iter()
        .map(|message| MemberError {
            pointer: pointer.to_owned(),
            message: message.into(),
            ..MemberError::default()
        })
        .collect()
}

/// A person to be made, as a request names it. Absent is not the same as empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserInput<'a> {
    /// Required.
    pub email: Option<&'a str>,
    /// Default: the address.
    pub username: Option<&'a str>,
    /// Absent: the person has none, and logs in through a provider or sets one by a link.
    pub password: Option<&'a Secret>,
    /// Default: empty.
    pub full_name: Option<&'a str>,
    /// Default: empty.
    pub description: Option<&'a str>,
    /// Default: `user`.
    pub role: Option<&'a str>,
}

/// A person whose fields keep the rules, in the form to be stored.
#[derive(Debug, Clone)]
pub struct UserFields {
    /// Clean, with the case it was given in.
    pub email: String,
    /// Clean.
    pub username: String,
    /// NFC.
    pub password: Option<Secret>,
    /// Clean.
    pub full_name: String,
    /// Clean.
    pub description: String,
    /// One of [`ROLES`].
    pub role: &'static str,
}

/// Checks a person to be made.
///
/// # Errors
/// Every violation, in the order of the table.
pub fn new_user(input: &UserInput<'_>) -> Result<UserFields, Vec<MemberError>> {
    let text = |given: Option<&str>| given.map(clean).unwrap_or_default();
    let fields = UserFields {
        email: text(input.email),
        username: text(input.username.or(input.email)),
        password: input.password.map(|p| Secret::new(nfc(p.expose()))),
        full_name: text(input.full_name),
        description: text(input.description),
        role: role_of(input.role),
    };
    let mut errors = at("/email", email(&fields.email));
    if input.username.is_some() {
        errors.extend(at("/username", username(&fields.username)));
    } else if errors.is_empty() {
        // An address may hold what a user name may not, e.g. `o'hara@lab.example`.
        errors.extend(at("/username", username(&fields.username)));
    }
    if let Some(given) = &fields.password {
        let broken = password(given.expose(), &fields.email, &fields.username);
        errors.extend(at("/password", broken));
    }
    errors.extend(at("/full_name", full_name(&fields.full_name)));
    errors.extend(at("/description", description(&fields.description)));
    let role = input.role.and_then(|name| role(clean(name).as_str()));
    errors.extend(at("/role", role));
    if errors.is_empty() {
        Ok(fields)
    } else {
        Err(errors)
    }
}

fn role_of(given: Option<&str>) -> &'static str {
    let given = given.map(clean);
    ROLES
        .into_iter()
        .find(|role| Some(*role) == given.as_deref())
        .unwrap_or("user")
}

/// Changes to a person, as a request names them; absent members stay as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserUpdate<'a> {
    /// Accepted only if it is what is stored.
    pub email: Option<&'a str>,
    /// New name.
    pub username: Option<&'a str>,
    /// New full name.
    pub full_name: Option<&'a str>,
    /// New description.
    pub description: Option<&'a str>,
    /// New role.
    pub role: Option<&'a str>,
}

/// Checks changes to a person whose stored address is `email`. The message
/// [`messages::EMAIL_FIXED`] among the violations makes the code `LS-FIELD-FIXED`.
#[must_use]
pub fn update(input: &UserUpdate<'_>, stored_email: &str) -> Vec<MemberError> {
    let mut errors = Vec::new();
    if input
        .email
        .is_some_and(|given| clean(given) != stored_email)
    {
        errors.extend(at("/email", [messages::EMAIL_FIXED]));
    }
    let text = |given: Option<&str>| given.map(clean);
    if let Some(name) = text(input.username) {
        errors.extend(at("/username", username(&name)));
    }
    if let Some(name) = text(input.full_name) {
        errors.extend(at("/full_name", full_name(&name)));
    }
    if let Some(about) = text(input.description) {
        errors.extend(at("/description", description(&about)));
    }
    if let Some(name) = text(input.role) {
        errors.extend(at("/role", role(&name)));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(errors: &[MemberError]) -> Vec<(&str, &str)> {
        errors
            .iter()
            .map(|e| (e.pointer.as_str(), e.message.as_str()))
            .collect()
    }

    #[test]
    fn the_example_has_exactly_three_errors() {
        let short = Secret::new("abc".to_owned());
        let mut input = UserInput {
            email: Some("Dana@lab.example"),
            password: Some(&short),
            ..UserInput::default()
        };
        let errors = new_user(&input).unwrap_err();
        assert_eq!(
            pairs(&errors),
            [
                ("/password", "Password must have at least 8 characters."),
                ("/password", "Password must contain a digit."),
                ("/password", "Password must contain a special character."),
            ]
        );
        let good = Secret::new("abcdef1!".to_owned());
        input.password = Some(&good);
        let fields = new_user(&input).unwrap();
        assert_eq!(
            (fields.email.as_str(), fields.role),
            ("Dana@lab.example", "user")
        );
        assert_eq!(fields.username, "Dana@lab.example");
        assert_eq!(fold(&fields.email), fold("dana@LAB.example"));
        assert_eq!(
            messages::email_exists(&fields.email),
            "A user with email Dana@lab.example already exists."
        );
    }

    #[test]
    fn every_rule_speaks_in_the_order_of_the_table() {
        let long = "x".repeat(501);
        let bad = Secret::new("\u{7}".to_owned());
        let errors = new_user(&UserInput {
            email: Some(&format!("{} @x", "a".repeat(70))),
            username: Some(&format!("-{}", "b".repeat(64))),
            password: Some(&bad),
            full_name: Some(&long[..65]),
            description: Some(&long),
            role: Some("root"),
        })
        .unwrap_err();
        assert_eq!(
            pairs(&errors),
            [
                ("/email", "Email must be at most 64 characters."),
                ("/email", "Email is not a valid address."),
                ("/username", "Username must be at most 64 characters."),
                (
                    "/username",
                    "Username may contain only letters, digits and . _ @ + - and must start with a letter or digit."
                ),
                ("/password", "Password must have at least 8 characters."),
                ("/password", "Password must contain a letter."),
                ("/password", "Password must contain a digit."),
                ("/password", "Password must contain a special character."),
                ("/password", "Password must not contain control characters."),
                ("/full_name", "Full name must be at most 64 characters."),
                (
                    "/description",
                    "Description must be at most 500 characters."
                ),
                (
                    "/role",
                    "Role must be superadmin, domain-admin, monitor or user."
                ),
            ]
        );
        let errors = new_user(&UserInput::default()).unwrap_err();
        assert_eq!(pairs(&errors), [("/email", "Email is required.")]);
        let errors = new_user(&UserInput {
            email: Some("a@b"),
            username: Some("  "),
            ..UserInput::default()
        });
        assert_eq!(
            pairs(&errors.unwrap_err()),
            [("/username", "Username must not be empty.")]
        );
    }

    #[test]
    fn addresses() {
        for good in ["a@b", "dana@lab.example", "a+b'c@x-1.y", "!@0"] {
            assert_eq!(email(good), Vec::<&str>::new(), "{good}");
        }
        for bad in [
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a@b..c",
            "a@.b",
            "a@b.",
            "a b@c",
            "ä@b",
            "a@b_c",
            "a\u{7f}@b",
        ] {
            assert_eq!(email(bad), ["Email is not a valid address."], "{bad}");
        }
        // 64 scalar values are allowed, 65 are not.
        assert!(email(&format!("{}@b", "a".repeat(62))).is_empty());
        assert_eq!(email(&format!("{}@b", "a".repeat(63))).len(), 1);
    }

    #[test]
    fn names_of_people_and_groups() {
        for good in ["a", "0", "A.b_c@d+e-f"] {
            assert!(username(good).is_empty(), "{good}");
        }
        for bad in [".a", "a b", "é", "a/b", "@a"] {
            assert_eq!(username(bad).len(), 1, "{bad}");
        }
        assert!(group_name("Équipe 2").is_empty());
        assert_eq!(group_name("a\nb").len(), 1);
        assert_eq!(group_name(""), ["Group name must not be empty."]);
        assert_eq!(group_name(&"ß".repeat(64)), Vec::<&str>::new());
        assert_eq!(group_name(&"ß".repeat(65)).len(), 1);
        assert!(label(&"ß".repeat(64)).is_none() && label(&"ß".repeat(65)).is_some());
    }

    #[test]
    fn passwords() {
        let check = |text: &str| password(text, "dana@lab.example", "dana-1-x");
        for good in ["abcdef1!", "пароль 1", "密密密密密密1 ", &"a1 ".repeat(42)] {
            assert_eq!(check(good), Vec::<&str>::new(), "{good}");
        }
        assert_eq!(
            check("DANA-1-x"),
            ["Password must not be the same as the email or the username."]
        );
        assert_eq!(
            check(&"a1 ".repeat(43)),
            ["Password must have at most 128 characters."]
        );
        assert_eq!(
            check("abcdef1!\u{85}"),
            ["Password must not contain control characters."]
        );
        // Seven characters in NFC, however many code points were typed.
        assert_eq!(
            check("e\u{301}bcde1!"),
            ["Password must have at least 8 characters."]
        );
        assert_eq!(check("abcdefg١!"), Vec::<&str>::new()); // any decimal digit
        assert_eq!(check("abcdefgⅣ!"), ["Password must contain a digit."]); // Nl is none
        assert_eq!(check("").len(), 4);
    }

    #[test]
    fn updates_leave_the_address_alone() {
        let same = UserUpdate {
            email: Some(" a@b "),
            username: Some("dana"),
            ..UserUpdate::default()
        };
        assert!(update(&same, "a@b").is_empty());
        assert_eq!(
            pairs(&update(&same, "A@b")),
            [("/email", "Email cannot be changed.")]
        );
    }

    #[test]
    fn text_is_brought_to_one_form() {
        assert_eq!(clean("\u{2003} e\u{301}x\t"), "éx");
        assert_eq!(fold("ΣΑΣ"), fold("σας"));
        assert_eq!(fold("STRASSE"), fold("straße"));
        assert_eq!(fold("\u{212a}elvin"), "kelvin");
        let cased = |c: &char| c.to_lowercase().ne([*c]) || c.to_uppercase().ne([*c]);
        for c in ('\0'..='\u{1ffff}').filter(cased) {
            let once = fold(&c.to_string());
            assert_eq!(fold(&once), once, "{:x}", u32::from(c));
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(a in any::<String>(), b in any::<String>(), c in any::<String>()) {
            let secret = Secret::new(b.clone());
            let input = UserInput {
                email: Some(&a), username: Some(&b), password: Some(&secret),
                full_name: Some(&c), description: Some(&a), role: Some(&c),
            };
            if let Ok(fields) = new_user(&input) {
                prop_assert!(email(&fields.email).is_empty());
            }
            let _ = update(&UserUpdate { email: Some(&a), ..UserUpdate::default() }, &b);
            let _ = (group_name(&a), label(&b), fold(&c));
        }

        #[test]
        fn clean_is_idempotent(text in any::<String>()) {
            let once = clean(&text);
            prop_assert_eq!(clean(&once), once);
        }

        #[test]
        fn fold_is_idempotent(text in any::<String>()) {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }
    }
}
