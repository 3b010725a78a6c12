# How long traffic stands still when bypath goes wrong, and what it leaves behind. Paced traffic runs from before to after;
# the times at which packets reach s0 (tcpdump) give the longest gap around the event:
#
#   killed    kill -9: its BPF links and its punt device go with the process
#   stopped   kill -STOP, the stall of all its threads: redirects go on into a full ring until the heartbeat is too old;
#             then kill -9
#   resumed   kill -STOP, and kill -CONT after 2 s: the kernel forwards in between, then bypath again
#   worker    the one worker's thread is stopped, the others live on (ptrace, by python3 if there is one); then kill -9
#
# Afterwards there must be no punt device, no XDP or tcx program and no qdisc that was not there before, the same routes;
# and a new `bypath run` must start and forward.

readonly AFTER_SECONDS=1.5 GAP_MS_MAX=1000

failopen() {
	: "${seconds:=5}" "${rate:=20000}" "${cases:=killed,stopped,resumed,worker}"
	headline
	printf '%-8s %9s %9s %9s  %s\n' event 'gap ms' offered lost after
	local name parts=() failed=0
	for name in ${cases//,/ }; do
		[[ $name != worker ]] || type -P python3 >/dev/null || continue
		fail "$name"
		parts+=("\"$name\":{$result}")
	done
	keep "\"seconds\":$seconds,\"rate\":$rate,\"cases\":{$(join , "${parts[@]}")}"
	return $failed
}

fail() { # event; leaves JSON members in $result
	local before after at line gap got lost verdict=clean
	before=$(state)
	start run
	[[ $(state) != "$before" ]] || die "the look for leftovers does not even see a running bypath"
	nsenter -t "$server" -n tcpdump -i s0 -n -s 64 -B 65536 -w "$dir/pcap" --immediate-mode udp dst port $SINK_PORT 2>"$dir/tcpdump" &
	local capture=$!
	sleep 0.5
	flood "$seconds" --rate "$rate" >"$dir/flood" &
	local source=$!
	sleep $AFTER_SECONDS
	at=$EPOCHREALTIME
	"event_$1"
	wait $source
	sleep 0.3
	kill -TERM $capture
	wait $capture || true
	kill -KILL "$forwarder" 2>/dev/null || true
	wait "$forwarder" 2>/dev/null || true
	sleep 0.3
	line=$(<"$dir/flood")
	after=$(state)
	[[ $after == "$before" ]] || verdict="left behind: $(diff <(echo "$before") <(echo "$after") | grep '^[<>]' | paste -sd' ')"
	restarts || verdict+=", a new bypath does not forward"
	read -r gap got < <(gaps "$at")
	lost=$(($(field offered "$line") - got))
	awk "BEGIN { exit !($gap > $GAP_MS_MAX) }" && verdict+=", over $GAP_MS_MAX ms"
	[[ $verdict == clean ]] || failed=1
	printf '%-8s %9s %9d %9d  %s\n' "$1" "$gap" "$(field offered "$line")" "$lost" "$verdict"
	result="\"gap_ms\":$gap,\"offered\":$(field offered "$line"),\"lost\":$lost,\"after\":\"$verdict\""
}

event_killed() { kill -KILL "$forwarder" && wait "$forwarder" 2>/dev/null || true; }
event_stopped() { kill -STOP "$forwarder"; }
event_resumed() { kill -STOP "$forwarder"; sleep 2; kill -CONT "$forwarder"; }
event_worker() {
	local thread
	thread=$(grep -l '^bypath-worker0$' /proc/"$forwarder"/task/*/comm | cut -d/ -f5)
	# PTRACE_SEIZE, PTRACE_INTERRUPT; the thread goes on when the tracer ends.
	python3 -c "
import ctypes, time
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
assert ptrace(0x4206, $thread, None, None) == 0 and ptrace(0x4207, $thread, None, None) == 0
time.sleep($seconds)" &
}

# The longest gap between two packets from just before the event on, in milliseconds, and how many packets there are.
gaps() {
	tcpdump -tt -n -r "$dir/pcap" 2>/dev/null | awk -v from="$1" '
		last && $1 > from - 0.02 && $1 - last > gap { gap = $1 - last }
		{ last = $1; n++ }
		END { printf "%.1f %d\n", gap * 1000, n }'
}

# All that bypath may have changed in this namespace.
state() {
	ip -o link show 2>/dev/null | sed -E 's/^[0-9]+: //; s/ (state|qlen) .*(prog|xdp)/ \2/; s/ qlen [0-9]+//'
	ip route show table all
	ip -6 route show table all
	ip rule
	tc qdisc show
	for interface in d0 d1; do
		tc filter show dev $interface ingress
	done
	[[ ! -x $(type -P bpftool) ]] || bpftool net show 2>/dev/null
}

restarts() {
	start run
	local before line
	before=$(delivered)
	line=$(flood 0.5 --rate "$rate")
	sleep 0.2
	local got=$(($(delivered) - before)) forwarded
	forwarded=$(field forwarded "$("$BIN/bypath" show totals --json)")
	stop
	((got > 0 && forwarded > 0))
}
