# The lab of bench/e2e: three network namespaces, and how to start a forwarder, send through it and count behind it.
#
#     client                        router (this script's own)                      server
#   +--------+                +------------------------------------+              +----------------+
#   |     c0 |== veth pair ===| d0 10.1.0.1/24     10.2.0.1/24  d1 |= veth pair ==| s0             |
#   | flood  |                |     kernel | run | wire | bare     |              | nft: count,drop|
#   +--------+                +------------------------------------+              +----------------+
#     10.1.0.2                         10.64.0.0/10 via 10.2.0.2                     10.2.0.2
#
# A veth pair has no wire and no interrupt: what flood sends is received by d0 in softirq on the core that sends. An AF_XDP
# forwarder then works on its own core, and so does s0's receive side. The kernel, when it forwards, does so in that same
# softirq, on the sender's core. Hence CPU time per packet over all cores is given beside frames per second.
#
# d0 has GRO on, so that it runs NAPI: frames that XDP redirects into a veth arrive only there. s0 has none: the frames that
# arrive there, by AF_XDP transmit or from the kernel, are skbs. Other offloads are as they come. Frames are counted and
# dropped at s0's ingress, the earliest place behind the driver.

# With --bridge d0 and d1 are ports of br0, which has no address, and the client sends to the server's Ethernet address. With
# --service d0 alone is a port of br0, which has the router's address; the client sends to 10.96.0.1, which is the server.

readonly BIN=${CARGO_TARGET_DIR:-$HERE/../target}/release
readonly SINK_PORT=9

log() { echo "$*" >&2; }

mac_of() { # namespace's process, interface
	nsenter -t "$1" -n ip -o link show dev "$2" 2>/dev/null | sed -E 's/.*link\/ether ([^ ]*).*/\1/'
}

client() { nsenter -t "$client" -n "$@"; }
server() { nsenter -t "$server" -n "$@"; }

lab_up() {
	mount -t sysfs sysfs /sys
	dir=$(mktemp -d -t bypath-e2e.XXXXXX)
	trap 'rm -rf "$dir"' EXIT
	unshare --net sleep infinity &
	client=$!
	unshare --net sleep infinity &
	server=$!
	sleep 0.2
	ip link set lo up
	ip link add d0 type veth peer name c0 netns "$client"
	ip link add d1 type veth peer name s0 netns "$server"
	sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.disable_ipv6=1
	inner=d0 # the link by which the client's packets arrive
	[[ ! $bridge$service ]] || { bridge_up && inner=br0; }
	[[ $bridge ]] || ip addr add 10.1.0.1/24 dev $inner
	[[ $bridge ]] || ip addr add 10.2.0.1/24 dev d1
	ip link set d0 up
	ip link set d1 up
	ethtool -K d0 gro on
	client ip link set c0 up
	server ip link set s0 up
	gateway=$(mac_of $$ $inner) target=10.2.0.2
	if [[ $bridge ]]; then
		gateway=$(mac_of "$server" s0)
	else
		ip neigh replace 10.1.0.2 lladdr "$(mac_of "$client" c0)" dev $inner nud permanent
		ip neigh replace 10.2.0.2 lladdr "$(mac_of "$server" s0)" dev d1 nud permanent
		ip route add 10.64.0.0/10 via 10.2.0.2
	fi
	server nft -f - <<-END
		table netdev sink { chain in {
			type filter hook ingress device s0 priority 0;
			udp dport $SINK_PORT counter drop;
		}; }
	END
	[[ ! $conntrack ]] || track
	[[ ! $service ]] || serve
	[[ ! $tbf ]] || tbf_up "$tbf"
	[[ ! $htb ]] || htb_up
}

# Bits per second of a rate as tc writes it.
bits() {
	awk -v rate="$1" 'BEGIN {
		split("k 1e3 m 1e6 g 1e9", units); unit = rate; sub(/^[0-9.]+/, "", unit); sub(/bit$/, "", unit)
		for (i = 1; i in units; i += 2) if (units[i] == unit) factor = units[i + 1]
		printf "%.0f", rate * (unit == "" ? 1 : factor)
	}'
}

# The token bucket of d1: so many tokens as come in $burst milliseconds, 20,000 bytes at least, and a queue of 50 ms.
tbf_up() { # rate
	local bytes=$(($(bits "$1") / 8))
	((bytes > 0)) || die "no rate: $1"
	local size=$((bytes * burst / 1000))
	tc qdisc replace dev d1 root handle 1: tbf rate "$1" burst $((size > 20000 ? size : 20000)) limit $((bytes / 20 + 40000))
}

# The tree of d1: classes 1:100 and up, each for one destination, found by a table of hashes.
htb_up() {
	local n rate=$(bits "$htb")
	{
		echo "qdisc add dev d1 root handle 1: htb"
		echo "class add dev d1 parent 1: classid 1:1 htb rate $htb"
		echo "filter add dev d1 parent 1: prio 1 protocol ip handle 2: u32 divisor 256"
		for ((n = 0; n < classes; n++)); do
			printf 'class add dev d1 parent 1:1 classid 1:%x htb rate %d ceil %s quantum 1514\n' $((256 + n)) $((rate / classes)) "$htb"
			printf 'filter add dev d1 parent 1: prio 1 protocol ip u32 ht 2:%x: match ip dst 10.64.%d.%d/32 flowid 1:%x\n' \
				$((n & 255)) $((n >> 8)) $((n & 255)) $((256 + n))
		done
		echo "filter add dev d1 parent 1: prio 1 protocol ip u32 ht 800:: match ip dst 10.64.0.0/10 hashkey mask 0x000000ff at 16 link 2:"
	} | tc -batch -
}

# The bridge of --bridge and --service. Its frames pass the chains of IP only where tracking was asked for.
bridge_up() {
	ip link add br0 type bridge
	ip link set d0 master br0
	[[ ! $bridge ]] || ip link set d1 master br0
	ip link set br0 up
	bridge fdb replace "$(mac_of "$client" c0)" dev d0 master static
	[[ ! $bridge ]] || bridge fdb replace "$(mac_of "$server" s0)" dev d1 master static
	sysctl -qw net.bridge.bridge-nf-call-iptables=$((bridge && conntrack))
}

# The service's address, as kube-proxy has it: chosen at prerouting, and hidden behind the node where it leaves.
serve() {
	target=10.96.0.1
	nft -f - <<-END
		table ip services {
			chain prerouting {
				type nat hook prerouting priority dstnat; policy accept;
				ip daddr 10.96.0.1 udp dport $SINK_PORT dnat to 10.2.0.2
			}
			chain postrouting {
				type nat hook postrouting priority srcnat; policy accept;
				oifname "d1" masquerade
			}
		}
	END
}

# A stateful filter in the router: the kernel tracks connections from here on. With rules that match nothing, each packet
# walks all of them, whatever its connection.
track() {
	local n
	{
		echo "table inet fw { chain forward { type filter hook forward priority 0; policy drop; ct state invalid drop;"
		for ((n = 0; n < rules; n++)); do
			echo "ip daddr 192.0.$((n / 256)).$((n % 256)) tcp dport $((1000 + n)) drop;"
		done
		echo "ct state established,related accept; iifname \"$inner\" accept; }; }"
	} | nft -f -
	[[ ! $masquerade ]] || nft -f - <<-END
		table inet nat { chain postrouting {
			type nat hook postrouting priority srcnat; policy accept;
			oifname "d1" masquerade
		}; }
	END
}

delivered() {
	server nft list table netdev sink | sed -nE 's/.*packets ([0-9]+).*/\1/p'
}

# Prints flood's JSON line. Arguments: seconds, further options. So many flows as $count, where that is set.
flood() {
	local dst=$target
	[[ $dsts == 1 && ! $htb ]] || dst=10.64.0.0
	client "$BIN/examples/flood" c0 --dst-mac "$gateway" --src 10.1.0.2 --dst $dst --dsts "$dsts" --dport $SINK_PORT \
		--sports "$flows" ${count:+--flows "$count"} --size "$size" --cpu "$source_cpu" --seconds "$1" "${@:2}"
}

# The same frames from an AF_XDP ring on the forwarding core, out of d1: what transmit alone can do, with nothing to receive.
flood_out() {
	"$BIN/examples/flood" d1 --xsk --dst-mac "$(mac_of "$server" s0)" --src 10.1.0.2 --dst $target --dport $SINK_PORT \
		--sports "$flows" --size "$size" --cpu "$cpu" --seconds "$1"
}

# Of a JSON line, the number of a name.
field() { # name, line
	sed -E "s/.*\"$1\":([0-9.]+).*/\1/" <<<"$2"
}

# The forwarder of a case in the background, in $forwarder when it is ready; the kernel is always ready, and a source needs none.
start() {
	forwarder=''
	: >"$dir/out"
	local options=(--workers 1 --cpus "$cpu")
	[[ ! $poll ]] || options+=(--poll "$poll")
	case $1 in
	kernel | source) return ;;
	run) "$BIN/bypath" run d0 d1 "${options[@]}" >"$dir/out" 2>&1 & ;;
	wire) "$BIN/bypath" wire d0 d1 "${options[@]}" >"$dir/out" 2>&1 & ;;
	bare) "$BIN/examples/bare_forwarder" d0 d1 --cpu "$cpu" >"$dir/out" 2>&1 & ;;
	*) die "no such case: $1" ;;
	esac
	forwarder=$!
	wait_ready "$1"
}

wait_ready() {
	for _ in {1..100}; do
		! grep -q ': ready$' "$dir/out" || return 0
		kill -0 "$forwarder" 2>/dev/null || break
		sleep 0.1
	done
	cat "$dir/out" >&2
	die "$1 did not get ready"
}

stop() {
	[[ $forwarder ]] || return 0
	kill -TERM "$forwarder"
	wait "$forwarder" || die "the forwarder ended with $?: $(tail -n 3 "$dir/out")"
	forwarder=''
	sleep 0.5 # the kernel lets go of an AF_XDP queue, its memory and programs some time after the end
}

calc() { awk "BEGIN { printf \"$1\", $2 }"; }

median() {
	printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

join() { local IFS=$1; shift; echo "$*"; }

# Where numbers come from.
provenance() {
	local commit
	commit=$(cd "$HERE/.." && git describe --always --dirty 2>/dev/null || echo unknown)
	echo "\"machine\":\"$(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores\"," \
		"\"kernel\":\"$(uname -r)\",\"driver\":\"veth, copy mode\",\"commit\":\"$commit\"," \
		"\"load\":\"$(cut -d' ' -f1-3 /proc/loadavg)\",\"command\":\"$COMMAND\""
}

headline() {
	provenance | tr -d '"' | sed 's/, *\([a-z]*:\)/\n\1/g; s/:/: /g'
	awk '$1 > 0.5 { print "NOTE: this machine has other work (load " $1 "), so the numbers are noisy" }' /proc/loadavg
	echo
}

keep() { # JSON members
	[[ ! $json ]] || echo "{\"bench\":\"e2e $what\",$(provenance),$1}" >"$json"
}
