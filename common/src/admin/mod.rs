//! The JSON shapes of administration: resource groups, policies, domains, projects,
//! people and keypairs, presets, pools and queues, the audit of use.
//!
//! Requests are read leniently: a [`Member`] of a wrong kind is kept as it came, so that
//! the core can name every bad member at once. Amounts and sizes are text; in answers they
//! are canonical, and no limit is an absent member, never `null`.

mod audit;
mod effects;
mod groups;
mod images;
mod invitations;
mod keypairs;
mod member;
mod people;
mod policies;
mod pools;
mod presets;
mod rights;
mod tenants;
mod vaults;

pub use audit::{UsageAuditRequest, UsageAuditView, UsageDrift};
pub use effects::{AccessShift, Difference, Finding, Impact, InTheWay, InUse, SessionImpact};
pub use groups::{AllowedRequest, AllowedView, GroupAccess, GroupRequest, GroupView};
pub use images::{ImageRequest, ImageView};
pub use invitations::{
    AcceptRequest, AcceptedAnswer, InvitationLookup, InvitationRequest, InvitationView, InvitedTo,
    NewInvitationAnswer, PendingUser,
};
pub use keypairs::{KeypairPatch, KeypairView, NewKeypair, NewKeypairAnswer, RotateRequest};
pub use member::{Member, Size, SlotTexts};
pub use people::{
    ImportAnswer, ImportedRow, MainKeypairRequest, NewUser, NewUserAnswer, RequireChangeRequest,
    Touched, UserDomainRequest, UserPatch, UserPolicyAssignment, UserRoleRequest,
    UserStatusRequest, UserSudoRequest, UserTouchedAnswer, UserView,
};
pub use policies::{
    BoundView, IdleRequest, IdleView, InteractionRequest, InteractionView, KeypairPolicyRequest,
    KeypairPolicyView, LimitsView, LivesView, ProjectPolicyRequest, ProjectPolicyView, UsedBy,
    UserPolicyRequest, UserPolicyView, UtilizationRequest, UtilizationView,
};
pub use pools::{
    AllocationPolicyRequest, AllocationPolicyView, ConfigSwitch, ConfigVerdict, ConfigVersionView,
    LinkView, LoadRequest, PolicyProfileRequest, PolicyProfileView, PoolRequest, PoolView,
    ProfileRequest, ProfileView, ProvisionRequest, QueuePatch, QueueView, ResourceConfigRequest,
    ResourceConfigView,
};
pub use presets::{OfferedPreset, PresetRequest, PresetView};
pub use rights::{
    AccessGrant, AccessRuleRequest, AccessRuleView, EffectiveAccess, GroupMember,
    NewServiceAccountAnswer, RehearsedDeletion, RuleResource, ServiceAccountRequest,
    ServiceAccountView, UserGroupRequest, UserGroupView,
};
pub use tenants::{
    DomainRequest, DomainView, MemberRequest, MemberView, ProjectRequest, ProjectView,
};
pub use vaults::{
    ConfigLeaf, ConfigShadowed, ConfigVault, ConfigView, ConfigWarning, VaultCheckRequest,
    VaultChecked, VaultRequest, VaultSummary, VaultView,
};

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_member_tells_absent_from_null_and_keeps_what_is_wrong() {
        let text = r#"{"description":null,"max_priority":7,"max_pids":"many","total_slots":{"cpu":null,"mem":"1g","x":3},"max_shm":5}"#;
        let request: KeypairPolicyRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.name, Member::Absent);
        assert_eq!(request.description, Member::Null);
        assert_eq!(request.max_priority, Member::Value(7));
        assert_eq!(request.max_pids, Member::Wrong(Value::from("many")));
        assert_eq!(request.max_shm, Member::Value(Size("5".to_owned())));
        let slots = request.total_slots.value().unwrap();
        assert_eq!(slots["cpu"], Member::Null);
        assert_eq!(slots["mem"], Member::Value("1g".to_owned()));
        assert_eq!(slots["x"], Member::Wrong(Value::from(3)));
        let back = serde_json::to_value(&request).unwrap();
        assert_eq!(back["total_slots"]["cpu"], Value::Null);
        assert!(back.get("name").is_none());
        assert!(serde_json::from_str::<KeypairPolicyRequest>(r#"{"nmae":"x"}"#).is_err());
    }
}
