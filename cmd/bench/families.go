package bench

import "fmt"

// family is a metric of a target: its name, how its values behave (a kind of package codectest), and the labels of its series.
type family struct {
	name, kind string
	variants   [][]string // label names and values by turns
}

// cross returns all combinations: names and their values by turns.
func cross(dimensions ...any) [][]string {
	out := [][]string{nil}
	for i := 0; i < len(dimensions); i += 2 {
		name, values := dimensions[i].(string), dimensions[i+1].([]string)
		var next [][]string
		for _, have := range out {
			for _, v := range values {
				next = append(next, append(append([]string{}, have...), name, v))
			}
		}
		out = next
	}
	return out
}

func numbered(format string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

var single = [][]string{nil}

// families makes one family of each name.
func families(variants [][]string, kind string, format string, names ...string) []family {
	out := make([]family, len(names))
	for i, n := range names {
		out[i] = family{fmt.Sprintf(format, n), kind, variants}
	}
	return out
}

func join(lists ...[]family) []family {
	var out []family
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

// nodeFamilies are what node_exporter exposes of a machine with eight cores.
func nodeFamilies() []family {
	devices := cross("device", append([]string{"lo", "eth0", "cni0", "flannel.1"}, numbered("veth%04x", 8)...))
	disks := cross("device", []string{"nvme0n1", "nvme1n1", "dm-0"})
	mounts := [][]string{}
	for i, m := range []string{"/", "/boot/efi", "/run", "/run/lock", "/var/lib/kubelet", "/var/lib/containerd"} {
		mounts = append(mounts, []string{"device", fmt.Sprintf("/dev/nvme0n1p%d", i), "fstype", []string{"ext4", "vfat", "tmpfs", "tmpfs", "ext4", "ext4"}[i], "mountpoint", m})
	}
	cores := cross("cpu", numbered("%d", 8))
	return join(
		families(cross("cpu", numbered("%d", 8), "mode", []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"}), "cpu_seconds", "node_%s", "cpu_seconds_total"),
		families(cross("cpu", numbered("%d", 8), "mode", []string{"nice", "user"}), "zero", "node_%s", "cpu_guest_seconds_total"),
		families(devices, "counter_bytes", "node_network_%s_total", "receive_bytes", "transmit_bytes"),
		families(devices, "counter_events", "node_network_%s_total", "receive_packets", "transmit_packets"),
		families(devices, "zero", "node_network_%s_total", "receive_compressed", "receive_errs", "receive_fifo", "receive_frame",
			"transmit_carrier", "transmit_colls", "transmit_errs", "transmit_fifo"),
		families(devices, "rarely_changing_counter", "node_network_%s_total", "receive_drop", "receive_multicast", "carrier_changes"),
		families(devices, "constant", "node_network_%s", "mtu_bytes", "up", "speed_bytes", "transmit_queue_length", "iface_id", "flags"),
		families(mounts, "gauge_pages", "node_filesystem_%s", "avail_bytes", "free_bytes"),
		families(mounts, "mostly_constant", "node_filesystem_%s", "files_free"),
		families(mounts, "constant", "node_filesystem_%s", "size_bytes", "files"),
		families(mounts, "zero", "node_filesystem_%s", "readonly", "device_error"),
		families(disks, "counter_events", "node_disk_%s_total", "reads_completed", "writes_completed", "reads_merged", "writes_merged"),
		families(disks, "counter_bytes", "node_disk_%s_total", "read_bytes", "written_bytes"),
		families(disks, "cpu_seconds", "node_disk_%s_total", "io_time_seconds", "io_time_weighted_seconds", "read_time_seconds", "write_time_seconds"),
		families(disks, "mostly_constant", "node_disk_%s", "io_now"),
		families(single, "gauge_pages", "node_memory_%s_bytes", "MemFree", "MemAvailable", "Cached", "Buffers", "Active", "Inactive", "Active_anon", "Active_file",
			"Inactive_file", "AnonPages", "Mapped", "Slab", "SReclaimable", "SUnreclaim", "PageTables", "KernelStack", "Dirty", "Writeback", "Shmem", "Committed_AS"),
		families(single, "constant", "node_memory_%s_bytes", "MemTotal", "SwapTotal", "SwapFree", "VmallocTotal", "CommitLimit", "Hugepagesize"),
		families(single, "zero", "node_memory_%s", "HugePages_Free", "HugePages_Total", "Bounce_bytes", "NFS_Unstable_bytes", "WritebackTmp_bytes", "HardwareCorrupted_bytes"),
		families(single, "counter_events", "node_netstat_%s", "Tcp_InSegs", "Tcp_OutSegs", "Udp_InDatagrams", "Udp_OutDatagrams", "Ip_Forwarding", "Icmp_InMsgs", "IpExt_InOctets", "IpExt_OutOctets"),
		families(single, "rarely_changing_counter", "node_netstat_%s", "Tcp_ActiveOpens", "Tcp_PassiveOpens", "Tcp_RetransSegs", "TcpExt_ListenDrops", "TcpExt_TCPTimeouts", "Udp_NoPorts"),
		families(single, "counter_events", "node_vmstat_%s", "pgfault", "pgpgin", "pgpgout", "pgmajfault"),
		families(single, "gauge_small", "node_%s", "procs_running", "sockstat_TCP_alloc", "sockstat_TCP_inuse", "filefd_allocated", "sockstat_TCP_tw"),
		families(single, "load", "node_%s", "load1", "load5", "load15"),
		families(single, "unix_time", "node_%s", "time_seconds"),
		families(single, "constant", "node_%s", "boot_time_seconds", "filefd_maximum", "nf_conntrack_entries_limit", "uname_info", "os_info", "exporter_build_info"),
		families(single, "counter_events", "node_%s_total", "context_switches", "intr", "forks"),
		families(cross("chip", []string{"platform_coretemp_0"}, "sensor", numbered("temp%d", 6)), "temperature", "node_hwmon_%s", "temp_celsius"),
		families(cores, "cpu_seconds", "node_schedstat_%s_seconds_total", "running", "waiting"),
		families(cores, "counter_events", "node_%s_total", "schedstat_timeslices", "softnet_processed"),
		families(cores, "zero", "node_%s_total", "softnet_dropped", "softnet_times_squeezed"),
		families(cross("collector", []string{"cpu", "diskstats", "filesystem", "hwmon", "meminfo", "netdev", "netstat", "stat", "vmstat"}), "ratio", "node_scrape_%s", "collector_duration_seconds"),
		families(cross("collector", []string{"cpu", "diskstats", "filesystem", "hwmon", "meminfo", "netdev", "netstat", "stat", "vmstat"}), "up", "node_scrape_%s", "collector_success"),
		families(single, "up", "%s", "up"),
	)
}

// podFamilies are what cAdvisor exposes of a pod, and containerFamilies of each of its containers.
func podFamilies() []family {
	return join(
		families(single, "counter_bytes", "container_network_%s_total", "receive_bytes", "transmit_bytes"),
		families(single, "counter_events", "container_network_%s_total", "receive_packets", "transmit_packets"),
		families(single, "zero", "container_network_%s_total", "receive_errors", "transmit_errors", "receive_packets_dropped", "transmit_packets_dropped"),
	)
}

func containerFamilies() []family {
	return join(
		families(single, "container_cpu_seconds", "container_cpu_%s_seconds_total", "usage", "user", "system"),
		families(single, "rarely_changing_counter", "container_cpu_%s_total", "cfs_periods", "cfs_throttled_periods", "cfs_throttled_seconds"),
		families(single, "gauge_pages", "container_memory_%s", "working_set_bytes", "usage_bytes", "rss", "cache", "mapped_file"),
		families(single, "mostly_constant", "container_memory_%s", "max_usage_bytes"),
		families(single, "zero", "container_memory_%s", "swap", "failcnt"),
		families(cross("failure_type", []string{"pgfault", "pgmajfault"}, "scope", []string{"container", "hierarchy"}), "rarely_changing_counter", "container_memory_%s_total", "failures"),
		families(cross("device", []string{"/dev/nvme0n1"}), "counter_bytes", "container_fs_%s_bytes_total", "writes"),
		families(cross("device", []string{"/dev/nvme0n1"}), "rarely_changing_counter", "container_fs_%s_total", "reads_bytes", "reads", "writes"),
		families(cross("device", []string{"/dev/nvme0n1"}), "zero", "container_fs_%s", "inodes_free", "inodes_total", "io_current", "usage_bytes"),
		families(single, "mostly_constant", "container_%s", "threads", "processes", "sockets", "file_descriptors"),
		families(single, "constant", "container_%s", "spec_cpu_period", "spec_cpu_shares", "spec_cpu_quota", "spec_memory_limit_bytes", "spec_memory_reservation_limit_bytes",
			"start_time_seconds", "threads_max"),
		families(single, "unix_time", "container_%s", "last_seen"),
	)
}

// stateFamilies are what kube-state-metrics exposes of a pod.
func stateFamilies() []family {
	conditions := cross("condition", []string{"true", "false", "unknown"})
	containers := []string{"app", "istio-proxy"}
	return join(
		families(cross("phase", []string{"Failed", "Pending", "Running", "Succeeded", "Unknown"}), "up", "kube_pod_%s", "status_phase"),
		families(conditions, "up", "kube_pod_status_%s", "ready", "scheduled"),
		families(single, "constant", "kube_pod_%s", "info", "owner", "start_time", "created", "labels", "restart_policy", "status_scheduled_time"),
		families(cross("container", containers), "mostly_constant", "kube_pod_container_%s", "status_restarts_total"),
		families(cross("container", containers), "constant", "kube_pod_container_%s", "info", "state_started", "status_ready", "status_running", "status_waiting", "status_terminated"),
		families(cross("container", containers, "resource", []string{"cpu", "memory"}), "constant", "kube_pod_container_resource_%s", "requests", "limits"),
	)
}

// serviceFamilies are what an instrumented Go program exposes.
func serviceFamilies() []family {
	routes := [][]string{}
	for _, r := range [][2]string{{"GET", "/api/v1/items"}, {"GET", "/api/v1/items/{id}"}, {"POST", "/api/v1/items"}, {"GET", "/healthz"}} {
		routes = append(routes, []string{"handler", r[1], "method", r[0]})
	}
	var buckets [][]string
	for _, r := range routes {
		for _, le := range []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"} {
			buckets = append(buckets, append(append([]string{}, r...), "le", le))
		}
	}
	return join(
		families(buckets, "histogram_bucket", "http_request_%s", "duration_seconds_bucket"),
		families(routes, "histogram_sum", "http_request_%s", "duration_seconds_sum"),
		families(routes, "counter_events", "http_request_%s", "duration_seconds_count"),
		families(cross("code", []string{"200", "404", "500"}), "rarely_changing_counter", "http_%s", "responses_total"),
		families(single, "gauge_heap", "go_memstats_%s_bytes", "heap_alloc", "heap_inuse"),
		families(single, "gauge_pages", "go_memstats_%s_bytes", "heap_idle", "heap_released", "stack_inuse"),
		families(single, "mostly_constant", "go_memstats_%s", "sys_bytes", "mspan_inuse_bytes", "next_gc_bytes"),
		families(single, "counter_events", "go_memstats_%s_total", "mallocs", "frees", "alloc_bytes"),
		families(single, "gauge_small", "go_%s", "goroutines", "threads"),
		families(cross("quantile", []string{"0", "0.25", "0.5", "0.75", "1"}), "mostly_constant", "go_%s", "gc_duration_seconds"),
		families(single, "constant", "go_%s", "info", "gc_gogc_percent", "gc_gomemlimit_bytes", "sched_gomaxprocs_threads"),
		families(single, "cpu_seconds", "process_%s", "cpu_seconds_total"),
		families(single, "gauge_pages", "process_%s_bytes", "resident_memory", "virtual_memory"),
		families(single, "gauge_small", "process_%s", "open_fds"),
		families(single, "constant", "process_%s", "max_fds", "start_time_seconds"),
		families(single, "up", "%s", "up"),
	)
}
