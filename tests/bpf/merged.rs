//! Segments that were merged beyond the MTU: the kernel's, but where it would meet them without their connection.

use crate::decisions::*;
use crate::lab::*;
use crate::steer::Lab;
use bypath::control::steer::Decision;

#[test]
fn merged_segments_pass_where_there_may_be_some() {
    in_netns(|| {
        let lab = Lab::new();
        let len = transit().len() as u16;
        lab.set(|port| port.len_max = len - 1);
        assert_eq!(lab.decision(&transit()), Decision::Redirect, "it does not look");
        lab.set(|port| (port.may_merge, port.len_max) = (true, len - 1));
        assert_eq!(lab.decision(&transit()), Decision::Merged);
        lab.set(|port| (port.may_merge, port.len_max) = (true, len));
        assert_eq!(lab.decision(&transit()), Decision::Redirect);
        // The kernel does not know the connection, but those of the box's own, and while it forwards alone.
        lab.set(|port| (port.may_merge, port.track_v6, port.len_max) = (true, true, len - 5));
        assert_eq!(lab.decision(&transit()), Decision::Merged);
        lab.set(|port| (port.may_merge, port.track_v4, port.len_max) = (true, true, len - 5));
        assert_eq!(lab.decision(&transit()), Decision::MergedLost);
        lab.set(|port| (port.may_merge, port.track_v4, port.len_max) = (true, true, len - 4));
        assert_eq!(lab.decision(&transit()), Decision::Merged, "as long as one with a tag");
        lab.set(|port| (port.may_merge, port.track_v4, port.len_max) = (true, true, len - 5));
        assert_eq!(lab.decision(&v4_addresses(SRC, LOCAL)), Decision::Local);
        lab.set(|port| (port.may_merge, port.track_v4, port.carry_v4, port.len_max) = (true, true, false, len - 5));
        assert_eq!(lab.decision(&transit()), Decision::FamilyLeft);
        lab.set(|port| (port.may_merge, port.track_v4, port.queues, port.len_max) = (true, true, 0, len - 5));
        assert_eq!(lab.decision(&transit()), Decision::NoSocket);
    });
}
