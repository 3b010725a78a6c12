# What a bypath costs that has nothing to do: CPU time of all its threads over some seconds without traffic, from
# /proc/PID/schedstat of each thread (nanoseconds), and how often it woke up.

idle() {
	: "${seconds:=10}"
	headline
	start run
	sleep 2
	local cpu_ns woke
	cpu_ns=$((-$(idle_sum schedstat 1))) woke=$((-$(idle_sum schedstat 3)))
	sleep "$seconds"
	cpu_ns=$((cpu_ns + $(idle_sum schedstat 1))) woke=$((woke + $(idle_sum schedstat 3)))
	for thread in /proc/"$forwarder"/task/*; do
		echo "    $(<"$thread/comm"): $(awk '{ printf "%.1f ms, %d times on a core", $1 / 1e6, $3 }' "$thread/schedstat") since its start"
	done
	stop
	local percent
	percent=$(calc %.2f "$cpu_ns / 1e7 / $seconds")
	echo "idle: $(calc %.1f "$cpu_ns / 1e6") ms of CPU in $seconds s: $percent % of a core, woken $(calc %.0f "$woke / $seconds") times a second"
	keep "\"seconds\":$seconds,\"cpu_percent\":$percent,\"wakeups_per_second\":$(calc %.1f "$woke / $seconds")"
}

idle_sum() { # file, column
	cat /proc/"$forwarder"/task/*/"$1" | awk -v column="$2" '{ sum += $column } END { printf "%d", sum }'
}
