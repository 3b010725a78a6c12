# New connections per second, with connection tracking in force: every frame that is sent begins one. As long as the
# frames that one measurement delivers are fewer than the table has room for (net.netfilter.nf_conntrack_max, which a
# network namespace cannot raise), so it is short; the table is emptied before each. Interleaved and in medians as in
# throughput.sh, on which this builds.

source "$HERE/e2e.d/throughput.sh"

connections() {
	: "${seconds:=0.15}" "${cases:=kernel,run}"
	conntrack=1 dsts=4093 flows=60000 # without a common divisor: 245,580,000 pairs
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
