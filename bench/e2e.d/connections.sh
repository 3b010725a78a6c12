# New connections per second, with connection tracking in force: every frame that is sent begins one. As long as the
# frames that one measurement delivers are fewer than the table has room for (net.netfilter.nf_conntrack_max, which a
# network namespace cannot raise), so it is short; the table is emptied before each, and warming up has a connection of its
# own. A measurement that began fewer connections than it delivered frames is none, and ends the run. Interleaved and in
# medians as in throughput.sh, on which this builds.

source "$HERE/e2e.d/throughput.sh"

readonly COUNT=10000000 # the most that the source has: more than are sent

connections() {
	: "${seconds:=0.15}" "${cases:=kernel,run}"
	conntrack=1 dsts=4093 flows=64512 count=$COUNT
	track
	declare -gA mpps=() cost=()
	local round name order=${cases//,/ }
	for ((round = 1; round <= rounds; round++)); do
		for name in $order; do
			nsenter -t $$ -n conntrack -F 2>/dev/null
			measure "$name"
		done
		order=$(tr ' ' '\n' <<<"$order" | tac | paste -sd' ')
		log "round $round of $rounds: $(for name in ${cases//,/ }; do echo -n "$name ${mpps[$name]##* }  "; done)M connections/s"
	done
	headline
	table | sed 's/Mpps/Mcps/'
	keep "$(members)"
}

# One connection, from a port that is none of the others.
warm() {
	count=1 "$1" $WARM_SECONDS --sport 1023 >/dev/null
}

# Those that are there must be as many as the frames that came: of bypath's own, and of the kernel's, which has copies of some.
judge() { # case, frames delivered
	local begun
	case $1 in
	kernel) begun=$(conntrack -C) ;;
	run) begun=$(field connections "$("$BIN/bypath" show conntrack --count --json)") ;;
	*) return 0 ;;
	esac
	((begun >= $2)) ||
		die "$1: $2 frames came, and $begun connections are there: the table is full (nf_conntrack_max), or frames followed on others: less --seconds"
}
