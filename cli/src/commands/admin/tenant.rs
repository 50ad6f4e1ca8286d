//! `admin domain …` and `admin project …`

use super::Kind;

/// Domains.
pub(crate) const DOMAIN: Kind = Kind {
    path: "/domains",
    what: "domain",
    key: "name",
    slots: "total_slots",
    columns: &[
        ("NAME", "name"),
        ("ACTIVE", "active"),
        ("LIMITS", "total_slots"),
        ("USED", "used_slots"),
        ("USERS", "users"),
        ("PROJECTS", "projects"),
        ("DESCRIPTION", "description"),
    ],
};
/// Projects.
pub(crate) const PROJECT: Kind = Kind {
    path: "/projects",
    what: "project",
    key: "name",
    slots: "total_slots",
    columns: &[
        ("NAME", "name"),
        ("DOMAIN", "domain_name"),
        ("ACTIVE", "active"),
        ("POLICY", "policy"),
        ("LIMITS", "total_slots"),
        ("USED", "used_slots"),
        ("MEMBERS", "members"),
    ],
};
