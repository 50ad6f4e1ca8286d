//! Failures of a command: what is printed and which code the program ends with.

use crate::output::{amount, clean};
use longshore_common::api::{LimitMet, Problem};
use std::fmt;

/// Exit codes that do not come from a session's program (cli.md, section 4).
pub(crate) mod code {
    /// Failed, not one of the below.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong usage, or a file that does not parse.
    pub(crate) const USAGE: u8 = 2;
    /// Not found.
    pub(crate) const NOT_FOUND: u8 = 3;
    /// Not signed in, or not allowed.
    pub(crate) const DENIED: u8 = 4;
    /// Changed meanwhile, name taken, in use, wrong state.
    pub(crate) const CONFLICT: u8 = 5;
    /// A value or a limit was refused.
    pub(crate) const REFUSED: u8 = 6;
    /// Coordinator unreachable or busy, rate limit, client time-out.
    pub(crate) const UNREACHABLE: u8 = 7;
    /// Done in part.
    pub(crate) const PARTLY: u8 = 8;
    /// Attached to a session: the client's `--timeout` passed.
    pub(crate) const ATTACHED_TIMEOUT: u8 = 124;
    /// Attached to a session: the failure is Longshore's, not the program's.
    pub(crate) const ATTACHED: u8 = 125;
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What happened, in one sentence.
    pub(crate) text: String,
    /// More about it, one line each.
    pub(crate) why: Vec<String>,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// What the program ends with, unless attached to a session.
    pub(crate) exit: u8,
    /// The API's own words, with its stable code and the id of the request.
    pub(crate) problem: Option<Box<Problem>>,
}

impl Failure {
    /// A failure with a code of its own.
    pub(crate) fn new(exit: u8, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            why: Vec::new(),
            hint: None,
            exit,
            problem: None,
        }
    }

    /// A failure of no special kind.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::new(code::FAILED, text)
    }

    /// The command was not written as it must be.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(code::USAGE, text)
    }

    /// The same with a reason.
    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// The same with the next thing to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the API answered.
    pub(crate) fn from_problem(problem: Problem) -> Self {
        let mut why: Vec<String> = problem
            .errors
            .iter()
            // What is said already needs no second line.
            .filter(|e| e.message != problem.detail || e.line.is_some())
            .map(|e| match (e.pointer.as_str(), e.line) {
                (_, Some(line)) => {
                    let column = e.column.unwrap_or(1);
                    format!("line {line}, column {column}: {}", e.message)
                }
                ("", _) => e.message.clone(), // it is about the whole body
                (pointer, _) => format!("{pointer}: {}", e.message),
            })
            .collect();
        if let Some(limit) = &problem.limit {
            why.push(limit_text(limit));
        }
        why.extend(problem.blockers.iter().map(|blocker| {
            format!(
                "{} {} {} ({})",
                blocker.kind, blocker.id, blocker.name, blocker.state
            )
        }));
        let named = u64::try_from(problem.blockers.len()).unwrap_or(u64::MAX);
        let all: u64 = problem.counts.values().sum();
        if all > named {
            why.push(format!("and {} more", all - named));
        }
        Self {
            text: if problem.detail.is_empty() {
                problem.title.clone()
            } else {
                problem.detail.clone()
            },
            why,
            hint: problem.hint.clone(),
            exit: exit_of(problem.status, &problem.code),
            problem: Some(Box::new(problem)),
        }
    }

    /// Whether the same request may well succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        self.exit == code::UNREACHABLE
    }

    /// The three parts, cleaned of control characters.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("error: {}", clean(&self.text));
        if let Some(problem) = &self.problem {
            text = format!("{text:<90}  {}", clean(&problem.code));
        }
        text.push('\n');
        for why in &self.why {
            text.push_str(&format!("  why: {}\n", clean(why)));
        }
        let request = self
            .problem
            .as_ref()
            .filter(|problem| !problem.request_id.is_empty())
            .map(|problem| format!("request {}", clean(&problem.request_id)));
        match (&self.hint, request) {
            (Some(hint), Some(request)) => {
                let hint = format!("  try: {}", clean(hint));
                text.push_str(&format!("{hint:<90}  {request}\n"));
            }
            (Some(hint), None) => text.push_str(&format!("  try: {}\n", clean(hint))),
            (None, Some(request)) => text.push_str(&format!("  {request}\n")),
            (None, None) => (),
        }
        text
    }
}

/// What a limit is, whose it is, what is used of it and what was asked.
fn limit_text(limit: &LimitMet) -> String {
    let slot = limit.slot.as_deref().unwrap_or_default();
    let shown = |text: &str| amount(slot, text);
    let source = limit.source.as_ref();
    let of = source.map_or_else(
        || limit.rule.clone(),
        |source| format!("{} {}", source.kind.replace('-', " "), source.name),
    );
    let name = match slot {
        "" => String::new(),
        slot => format!("{slot} "),
    };
    let most = limit.limit.as_deref().map(shown);
    let asked = shown(&limit.need);
    match limit.rule.as_str() {
        // What is there at all: nothing of it is "in use".
        "agent-capacity" => {
            let most = most.unwrap_or_else(|| "nothing".to_owned());
            format!("{of}: one agent has {name}{most} at the most, {asked} asked")
        }
        "cluster" => match most.as_deref() {
            None | Some("0") => {
                format!("{of}: no agent has room for one of the {asked} containers")
            }
            Some(most) => format!("{of}: room for {most} of {asked} containers"),
        },
        // Of one session, so nothing of it can be in use.
        "priority" | "cluster-size" => {
            let most = most.unwrap_or_else(|| "none".to_owned());
            format!("{of}: {} limit {most}, {asked} asked", limit.rule)
        }
        rule => {
            let rule = source.map_or_else(String::new, |_| format!(" ({rule})"));
            let most = most.map_or_else(String::new, |most| format!("limit {most}, "));
            let used = shown(&limit.have);
            format!("{of}: {name}{most}{used} in use, {asked} asked{rule}")
        }
    }
}

/// The exit code of an answer of the API.
pub(crate) fn exit_of(status: u16, reference: &str) -> u8 {
    match (status, reference) {
        (_, "LS-IDEMPOTENCY-BUSY") => code::UNREACHABLE,
        (_, "LS-AMBIGUOUS") => code::CONFLICT,
        (400, _) => code::USAGE,
        (401 | 403, _) => code::DENIED,
        (404 | 410, _) => code::NOT_FOUND,
        (409 | 412 | 428, _) => code::CONFLICT,
        (413 | 415 | 422 | 507, _) => code::REFUSED,
        (408 | 429 | 502 | 503 | 504, _) => code::UNREACHABLE,
        _ => code::FAILED,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::api::{MemberError, Source};

    #[test]
    fn codes_of_the_table() {
        let table = [
            (401, "LS-AUTH-FAILED", 4),
            (403, "LS-FORBIDDEN", 4),
            (404, "LS-NOT-FOUND", 3),
            (405, "LS-METHOD", 1),
            (409, "LS-EXISTS", 5),
            (409, "LS-IDEMPOTENCY-BUSY", 7),
            (412, "LS-VERSION-STALE", 5),
            (422, "LS-LIMIT-NEVER", 6),
            (400, "LS-SYNTAX", 2),
            (429, "LS-RATE-LIMIT", 7),
            (500, "LS-INTERNAL", 1),
            (503, "LS-BUSY", 7),
        ];
        for (status, reference, exit) in table {
            assert_eq!(exit_of(status, reference), exit, "{reference}");
        }
    }

    #[test]
    fn three_parts_and_a_reference() {
        let failure = Failure::from_problem(Problem {
            kind: String::new(),
            title: "Request is above a limit".into(),
            status: 422,
            code: "LS-LIMIT-NEVER".into(),
            detail: "Two at most; \u{1b}[31mfour asked.".into(),
            errors: vec![MemberError {
                pointer: "/slots/cuda.device".into(),
                message: "4 is more than 2.".into(),
                ..MemberError::default()
            }],
            limit: Some(LimitMet {
                rule: "keypair-slots".into(),
                slot: Some("cuda.device".into()),
                limit: Some("2".into()),
                have: "0".into(),
                need: "4".into(),
                source: None,
            }),
            hint: Some("Ask for 2.".into()),
            blockers: Vec::new(),
            counts: std::collections::BTreeMap::new(),
            instance: String::new(),
            request_id: "req_1".into(),
        });
        let text = failure.render();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("error: Two at most; [31mfour asked."),
            "{text}"
        );
        assert!(lines[0].ends_with("  LS-LIMIT-NEVER"), "{text}");
        assert_eq!(lines[1], "  why: /slots/cuda.device: 4 is more than 2.");
        assert_eq!(
            lines[2],
            "  why: keypair-slots: cuda.device limit 2, 0 in use, 4 asked"
        );
        assert!(lines[3].starts_with("  try: Ask for 2."), "{text}");
        assert!(lines[3].ends_with("request req_1"), "{text}");
        assert_eq!(failure.exit, 6);
    }

    #[test]
    fn one_reason_is_said_once() {
        let problem: Problem = serde_json::from_value(serde_json::json!({
            "type": "x", "title": "t", "status": 422, "code": "LS-INVALID",
            "detail": "Email is not a valid address.", "instance": "/", "request_id": "r",
            "errors": [{ "pointer": "/email", "message": "Email is not a valid address." }],
        }))
        .unwrap();
        assert_eq!(Failure::from_problem(problem).why, [""; 0]);
    }

    #[test]
    fn limits_in_words() {
        let met = |rule: &str, slot: Option<&str>, limit: &str, have: &str, need: &str, source| {
            limit_text(&LimitMet {
                rule: rule.into(),
                slot: slot.map(str::to_owned),
                limit: Some(limit.into()),
                have: have.into(),
                need: need.into(),
                source,
            })
        };
        let group = || Some(Source::new("group", "default"));
        assert_eq!(
            met(
                "agent-capacity",
                Some("mem"),
                "68719476736",
                "0",
                "69793218560",
                group()
            ),
            "group default: one agent has mem 64 GB at the most, 65 GB asked"
        );
        assert_eq!(
            met("cluster", None, "0", "0", "3", group()),
            "group default: no agent has room for one of the 3 containers"
        );
        assert_eq!(
            met("cluster", None, "2", "0", "3", group()),
            "group default: room for 2 of 3 containers"
        );
        let policy = || Some(Source::new("keypair-policy", "student"));
        assert_eq!(
            met("priority", None, "10", "0", "50", policy()),
            "keypair policy student: priority limit 10, 50 asked"
        );
        assert_eq!(
            met(
                "keypair-slots",
                Some("mem"),
                "1073741824",
                "0",
                "2147483648",
                policy()
            ),
            "keypair policy student: mem limit 1 GB, 0 B in use, 2 GB asked (keypair-slots)"
        );
    }
}
