# Where the time of one forwarding core goes: `perf` looks at the forwarder some thousand times a second while it forwards an
# unpaced flood, and what it saw is put into groups by the functions on the stack. A group's share of all looks, times the
# time that the core has for a packet, is its nanoseconds per packet. With --out each case also becomes a flame graph
# (FILE-CASE.svg), where inferno-flamegraph or flamegraph.pl is installed.
#
# The kernel as a forwarder works in the softirq of whoever sends, so it is not a process that could be looked at: cases are run,
# wire and bare. The machine's clock interrupts the look, not a counter of the processor, so code that runs with interrupts
# disabled shows up at the place that enables them (_raw_spin_unlock_irqrestore).

readonly LOOKS_PER_SECOND=2000

# Pattern on the stack, group; the first that matches counts.
readonly GROUPS_OF_STACKS='
net_rx_action|handle_softirqs|do_softirq	the receive side of the port behind (veth has no wire; its filter and sink are here)
dev_direct_xmit|veth_xmit	the device: veth hands the frame to its peer
sock_alloc_send|skb_store_bits|alloc_skb|xsk_build_skb	an skb: allocated, and the frame copied into it
sendto|xsk_|entry_SYSCALL	AF_XDP transmit: ring, system call, completion
asm_|exc_|irq|schedule	interrupts and scheduling
XskQueue|xsk_ring|xsk_prod|xsk_cons|Umem	rings, and whose frame it is
bypath|bare_forwarder	the walk, and the turn around it
'

profile() {
	command -v perf >/dev/null || die "perf is missing: apt install linux-perf"
	: "${seconds:=4}" "${cases:=run,bare}"
	headline
	for name in ${cases//,/ }; do
		[[ $name != kernel ]] || die "the kernel works in the softirq of whoever sends: --cases run,wire,bare"
		look "$name"
	done
}

look() {
	local line source before after
	start "$1"
	flood 0.3 >/dev/null
	before=$(delivered)
	flood "$((seconds + 2))" >"$dir/flood" &
	source=$!
	sleep 1
	perf record --quiet -g -e cpu-clock -F $LOOKS_PER_SECOND -p "$forwarder" -o "$dir/perf" -- sleep "$seconds" 2>"$dir/perf.err" ||
		die "perf: $(tail -n 1 "$dir/perf.err")"
	wait "$source"
	sleep 0.1
	after=$(delivered)
	stop
	((after > before)) || die "$1 delivered nothing: $(cat "$dir/out")"
	line=$(cat "$dir/flood")
	perf script -i "$dir/perf" -F comm,ip,sym 2>/dev/null | fold >"$dir/folded"
	[[ -s $dir/folded ]] || die "perf saw nothing of $1"
	print_groups "$1" "$(calc %.0f "($(field seconds "$line")) * 1e9 / ($after - $before)")" <"$dir/folded"
	[[ ! $out ]] || draw "$1"
}

# One line for each stack that was seen: its functions from the outermost on, and how often.
fold() {
	awk '
		/^[^ \t]/ { comm = $1; next }
		NF { frame = $2; sub(/\+0x[0-9a-f]+$/, "", frame); stack = frame (stack == "" ? "" : ";" stack); next }
		stack != "" { seen[comm ";" stack]++; stack = "" }
		END { if (stack != "") seen[comm ";" stack]++; for (s in seen) print s, seen[s] }' | sort
}

print_groups() { # case, nanoseconds per packet; folded stacks on stdin
	awk -v patterns="$GROUPS_OF_STACKS" -v name="$1" -v each="$2" '
		BEGIN {
			n = split(patterns, lines, "\n")
			for (i = 1; i <= n; i++) if (split(lines[i], part, "\t") == 2) { pattern[++count] = part[1]; title[count] = part[2] }
			title[count + 1] = "anything else"
		}
		{
			times = $NF; sub(/ [0-9]+$/, "")
			stack = $0; sub(/^[^;]*;/, "", stack)
			for (i = 1; i <= count && stack !~ pattern[i]; i++) ;
			of[i] += times; all += times
		}
		END {
			printf "%s: %d ns a packet on this core, seen %d times\n", name, each, all
			for (i = 1; i <= count + 1; i++) if (of[i]) printf "  %6.1f %%  %5.0f ns  %s\n", of[i] * 100 / all, of[i] * each / all, title[i]
			print ""
		}'
}

draw() {
	local tool
	tool=$(command -v inferno-flamegraph || command -v flamegraph.pl) || die "--out needs inferno-flamegraph (cargo install inferno) or flamegraph.pl"
	"$tool" --title "bypath: one forwarding core, $1: $COMMAND" <"$dir/folded" >"$out-$1.svg"
}
