//! Rulesets as firewalls of the field install them, shortened to one of each construct; loaded with `nft -f`.

/// Each expression that nft 1.0.6 emits and this kernel has, in the order in which `expressions` in the test looks at them.
pub const EXPRESSIONS: &str = r#"
table inet t {
    counter named { packets 7 bytes 900 }
    quota daily { over 10 mbytes used 3 kbytes }
    limit slow { rate 10/minute burst 3 packets }
    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
        ether saddr 00:11:22:33:44:55
        tcp dport 22
        @nh,8,8 set 5
        udp dport set 53
        ip dscp set cs1
        meta iifname "eth*" meta mark set 0x10
        ct state established,related ct direction reply ct mark set meta mark
        ct original ip saddr 10.0.0.1 ct bytes > 10 ct expiration 10s
        ct label set 1 ct zone set 7
        tcp option maxseg size 1-500
        tcp option sack-perm exists
        exthdr frag exists
        ip option ra exists
        reset tcp option sack-perm
        ip saddr & 0.0.0.255 == 4
        meta mark set ct mark << 8
        ip length 20-30
        ip length != 20-30
        ct count over 5
        quota over 10 bytes
        limit rate over 5 kbytes/second burst 7 kbytes
        limit rate 5/hour
        counter name named quota name daily limit name slow
        counter name tcp dport map { 22 : named }
        numgen inc mod 3 offset 4 vmap { 4 : accept, 5 : drop }
        numgen random mod 3 vmap { 0 : return, 1 : continue }
        jhash ip saddr . tcp sport mod 3 seed 0x1 vmap { 0 : goto other }
        jhash ip saddr mod 3 vmap { 0 : jump other }
        symhash mod 3 vmap { 0 : accept }
        fib daddr type local
        fib saddr . iif oif missing
        rt classid 5
        socket transparent 1
        log prefix "seen " group 3
        log prefix "seen "
        notrack
        reject with icmpx admin-prohibited
        reject with tcp reset
        reject with icmp type host-prohibited
        meta nftrace set 1
        meta day 3
        meta hour "12:00"
        osf name "Linux"
        sctp chunk data exists
        dccp type request
    }
    chain other { }
}
table inet n {
    chain pre {
        type nat hook prerouting priority -100;
        tcp dport 80 dnat ip to 1.2.3.4-1.2.3.9:8080-8090 random
        tcp dport 81 redirect to :8081
        dnat ip6 to fd00::1
    }
    chain post {
        type nat hook postrouting priority 100;
        meta l4proto tcp masquerade to :1024-65535 fully-random
        masquerade persistent
        snat ip prefix to ip saddr map { 10.0.0.0/24 : 192.168.1.0/24 }
    }
}
"#;

/// firewalld 1.3 with nftables (`src/firewall/core/nftables.py`): zones by verdict map, policies as chains, icmpx rejects.
pub const FIREWALLD: &str = r#"
table inet firewalld {
    ct helper helper-ftp-tcp { type "ftp" protocol tcp; l3proto inet; }
    set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
    chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; jump mangle_PREROUTING_ZONES; }
    chain mangle_PREROUTING_ZONES { iifname "eth0" goto mangle_PRE_public; goto mangle_PRE_public; }
    chain mangle_PRE_public { jump mangle_PRE_public_log; jump mangle_PRE_public_allow; }
    chain mangle_PRE_public_log { }
    chain mangle_PRE_public_allow { }
    chain filter_PREROUTING {
        type filter hook prerouting priority filter + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 addr-unreachable
        ip saddr @blocked drop
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_ZONES { iifname "eth0" goto filter_FWD_public; goto filter_FWD_public; }
    chain filter_FWD_public {
        oifname "eth1" accept
        tcp dport { 22, 80, 443 } ct state { new, untracked } accept
        tcp dport 21 ct helper set "helper-ftp-tcp"
        icmp type echo-request accept
        reject with icmpx admin-prohibited
    }
    chain nat_POSTROUTING {
        type nat hook postrouting priority srcnat + 10; policy accept;
        meta nfproto ipv4 oifname != "lo" masquerade
    }
    chain nat_PREROUTING {
        type nat hook prerouting priority dstnat + 10; policy accept;
        tcp dport 8080 dnat ip to 10.0.0.5:80
    }
}
"#;

/// OpenWrt fw4 (`root/usr/share/firewall4/templates/ruleset.uc`): MSS clamping both ways, handled zones, flowtable off.
pub const FW4: &str = r#"
table inet fw4 {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state vmap { established : accept, related : accept } comment "!fw4: Handle forwarded flows"
        iifname "br-lan" jump forward_lan
        iifname { "wan", "wan6" } jump forward_wan
        jump handle_reject
    }
    chain handle_reject { meta l4proto tcp reject with tcp reset; reject with icmpx port-unreachable; }
    chain forward_lan { jump accept_to_wan; ct status dnat accept; jump accept_to_lan; }
    chain forward_wan {
        meta nfproto ipv6 icmpv6 type . icmpv6 code { nd-neighbor-solicit . 0, echo-request . 0 } limit rate 1000/second counter accept
        meta l4proto esp counter jump accept_to_lan
        meta nfproto ipv4 udp dport 68 counter accept
    }
    chain accept_to_lan { oifname "br-lan" counter accept; }
    chain accept_to_wan { meta nfproto ipv4 oifname "wan" ct state invalid counter drop; oifname "wan" counter accept; }
    chain srcnat { type nat hook postrouting priority srcnat; policy accept; oifname "wan" jump srcnat_wan; }
    chain srcnat_wan { meta nfproto ipv4 masquerade; }
    chain dstnat { type nat hook prerouting priority dstnat; policy accept; iifname "wan" jump dstnat_wan; }
    chain dstnat_wan { meta nfproto ipv4 tcp dport 2222 counter dnat ip to 192.168.1.10:22; }
    chain raw_prerouting { type filter hook prerouting priority raw; policy accept; }
    chain mangle_forward {
        type filter hook forward priority mangle; policy accept;
        iifname "wan" tcp flags syn / fin,syn,rst tcp option maxseg size set rt mtu
        oifname "wan" tcp flags & (fin|syn|rst) == syn tcp option maxseg size set 1452
    }
}
"#;

/// Docker 29 with nftables (`daemon/libnetwork/internal/nftables`): verdict maps of interface names.
pub const DOCKER: &str = r#"
table ip docker-bridges {
    map filter-forward-in-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-in__docker0 } }
    map filter-forward-out-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-out__docker0 } }
    map nat-postrouting-in-jumps { type ifname : verdict; }
    map nat-postrouting-out-jumps { type ifname : verdict; elements = { "docker0" : jump nat-postrouting-out__docker0 } }
    chain filter-FORWARD {
        type filter hook forward priority filter; policy accept;
        oifname vmap @filter-forward-in-jumps
        iifname vmap @filter-forward-out-jumps
    }
    chain filter-forward-in__docker0 {
        ct state established,related counter accept
        iifname "docker0" counter accept comment "ICC"
        ip daddr 172.17.0.2 tcp dport 80 counter accept
        counter drop comment "UNPUBLISHED PORT DROP"
    }
    chain filter-forward-out__docker0 {
        ct state established,related counter accept
        counter accept comment "OUTGOING"
    }
    chain nat-POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        iifname vmap @nat-postrouting-out-jumps
        oifname vmap @nat-postrouting-in-jumps
    }
    chain nat-postrouting-out__docker0 { oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade comment "MASQUERADE"; }
    chain nat-prerouting-and-output {
        iifname != "docker0" tcp dport 8080 counter dnat to 172.17.0.2:80 comment "DNAT"
    }
    chain nat-PREROUTING { type nat hook prerouting priority dstnat; policy accept; fib daddr type local counter jump nat-prerouting-and-output; }
    chain raw-PREROUTING { type filter hook prerouting priority raw; policy accept; ip daddr 172.17.0.2 iifname != "docker0" counter drop; }
}
"#;

/// kube-proxy in nftables mode (`pkg/proxy/nftables/proxier.go`): service maps, numgen, affinity sets, marks.
pub const KUBE: &str = r#"
table ip kube-proxy {
    set cluster-ips { type ipv4_addr; elements = { 10.96.0.1, 10.96.0.10 } }
    set nodeport-ips { type ipv4_addr; elements = { 192.168.0.1 } }
    set affinity-a { type ipv4_addr; flags dynamic,timeout; timeout 3h; }
    map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
    map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.7.7 . tcp . 80 : goto reject-chain } }
    map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.96.0.1 . tcp . 443 : goto service-a, 10.96.0.10 . udp . 53 : goto service-b }
    }
    map service-nodeports { type inet_proto . inet_service : verdict; elements = { tcp . 30080 : goto service-a } }
    set hairpin-connections { type ipv4_addr . ipv4_addr . inet_proto . inet_service; elements = { 10.244.0.2 . 10.244.0.2 . tcp . 6443 } }
    chain mark-for-masquerade { meta mark set mark or 0x4000; }
    chain masquerading {
        ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade
        mark & 0x4000 == 0 return
        meta mark set mark xor 0x4000
        masquerade fully-random
    }
    chain services {
        ip daddr . meta l4proto . th dport vmap @service-ips
        ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
    }
    chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
    chain cluster-ips-check { ip daddr @cluster-ips reject; ip daddr @cluster-ips drop; }
    chain reject-chain { reject; }
    chain service-a {
        ip saddr @affinity-a goto endpoint-a
        ip daddr 10.96.0.1 tcp dport 443 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
        numgen random mod 2 vmap { 0 : goto endpoint-a, 1 : goto endpoint-b }
    }
    chain service-b { numgen random mod 1 vmap { 0 : goto endpoint-b }; }
    chain endpoint-a {
        ip saddr 10.244.0.2 jump mark-for-masquerade
        update @affinity-a { ip saddr }
        meta l4proto tcp dnat to 10.244.0.2:6443
    }
    chain endpoint-b { meta l4proto tcp dnat to 10.244.0.3:6443; }
    chain filter-prerouting { type filter hook prerouting priority -110; ct state new jump firewall-check; }
    chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
    chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check; ct state new jump cluster-ips-check; }
    chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
    chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
"#;
