//! Rulesets that most scenarios use.

/// Nothing invalid, what is known, and what begins behind port 0.
pub const STRICT: &str = "table inet fw {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname \"d0\" accept
    }
}";

/// All that is not invalid.
pub const NOT_INVALID: &str = "table inet fw {
    chain forward {
        type filter hook forward priority 0; policy accept;
        ct state invalid drop
    }
}";

/// Tracks, and lets everything pass.
pub const OPEN: &str = "table inet fw {
    chain forward {
        type filter hook forward priority 0; policy accept;
        ct state new,established,related,invalid accept
    }
}";
