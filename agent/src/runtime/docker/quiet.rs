//! Below `info` the client of the engine logs whole requests and answers: environments of
//! containers stand there.

/// The client, as filters of a log name it.
const CLIENT: &str = "bollard";

/// Filters of a log, but for those by which the client would say more than `info`.
#[must_use]
pub fn without_bodies(filters: &str) -> String {
    let is_of_client = |filter: &str| {
        let rest = filter.trim().strip_prefix(CLIENT);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let kept = filters.split(',').filter(|filter| !is_of_client(filter));
    let kept = kept.filter(|filter| !filter.trim().is_empty());
    let last = format!("{CLIENT}=info");
    let all: Vec<&str> = kept.chain([last.as_str()]).collect();
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_the_client_to_tell_what_containers_are_given() {
        for (given, kept) in [
            ("trace", "trace,bollard=info"),
            ("", "bollard=info"),
            (
                "debug,bollard=trace,quinn=warn",
                "debug,quinn=warn,bollard=info",
            ),
            ("info, bollard::docker=debug", "info,bollard=info"),
            ("bollard", "bollard=info"),
            ("bollard[x]=trace", "bollard=info"),
            ("bollards=trace", "bollards=trace,bollard=info"),
        ] {
            let filters = without_bodies(given);
            assert_eq!(filters, kept, "{given}");
            assert!(longshore_logging::filter(&filters).is_ok());
        }
    }
}
