//! What the kinds of frames are called, where they are counted.

use super::{
    ActualSet, CertIssued, CertRequest, Data, EnrolAnswer, EnrolRefused, EnrolRequest, Figures,
    FromExec, FromTunnel, Goodbye, Heartbeat, HeartbeatAck, Hello, InventoryReport, Material,
    MaterialRequest, Message, NodeLayers, Notice, Outcome, OutcomeAck, PullProgress, Refused,
    RenewRequest, SignedSet, StreamAccept, StreamEnd, StreamOpen, StreamRefuse, Terms, ToExec,
    ToTunnel, UnclaimedReport, UseReport, Welcome,
};

/// Every kind with its name. The order is of no account.
pub const KINDS: [(u16, &str); 35] = [
    (Hello::KIND, "hello"),
    (Welcome::KIND, "welcome"),
    (Refused::KIND, "refused"),
    (Heartbeat::KIND, "heartbeat"),
    (HeartbeatAck::KIND, "heartbeat-ack"),
    (Goodbye::KIND, "goodbye"),
    (ActualSet::KIND, "actual-set"),
    (SignedSet::KIND, "desired-set"),
    (Outcome::KIND, "outcome"),
    (OutcomeAck::KIND, "outcome-ack"),
    (InventoryReport::KIND, "inventory"),
    (PullProgress::KIND, "pull-progress"),
    (Notice::KIND, "notice"),
    (CertRequest::KIND, "cert-request"),
    (CertIssued::KIND, "cert-issued"),
    (StreamOpen::KIND, "stream-open"),
    (StreamAccept::KIND, "stream-accept"),
    (StreamRefuse::KIND, "stream-refuse"),
    (Data::KIND, "data"),
    (StreamEnd::KIND, "stream-end"),
    (ToExec::KIND, "to-exec"),
    (FromExec::KIND, "from-exec"),
    (ToTunnel::KIND, "to-tunnel"),
    (FromTunnel::KIND, "from-tunnel"),
    (EnrolRequest::KIND, "enrol-request"),
    (EnrolAnswer::KIND, "enrol-answer"),
    (EnrolRefused::KIND, "enrol-refused"),
    (RenewRequest::KIND, "renew-request"),
    (UnclaimedReport::KIND, "unclaimed"),
    (Terms::KIND, "terms"),
    (NodeLayers::KIND, "node-layers"),
    (MaterialRequest::KIND, "material-request"),
    (Material::KIND, "material"),
    (UseReport::KIND, "use"),
    (Figures::KIND, "figures"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_kind_has_a_name_of_its_own() {
        let kinds: BTreeSet<u16> = KINDS.iter().map(|(kind, _)| *kind).collect();
        let names: BTreeSet<&str> = KINDS.iter().map(|(_, name)| *name).collect();
        assert_eq!((kinds.len(), names.len()), (KINDS.len(), KINDS.len()));
    }
}
