package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/storage/codec/codectest"
)

// Load says which samples are sent. The same Load gives the same samples.
type Load struct {
	Series   int
	Steps    int           // samples of each series
	Interval time.Duration // between the samples of a series
	Start    int64         // ms; samples of a target are up to one interval later
	Churn    float64       // share of the pods that are replaced in an hour
	Seed     uint64

	sources []source // of one machine; those of node if nil
}

// machine is all series of one machine.
func (l Load) machine() []source {
	if l.sources != nil {
		return l.sources
	}
	return node()
}

// only limits the load to metrics of these names.
func (l *Load) only(names map[string]bool) {
	l.sources = slices.DeleteFunc(slices.Clone(node()), func(s source) bool { return !names[s.family.name] })
}

// Samples is how many samples the load has.
func (l Load) Samples() int { return l.Series * l.Steps }

// End is the time in ms that all samples are older than.
func (l Load) End() int64 { return l.Start + int64(l.Steps+1)*l.Interval.Milliseconds() }

const podsPerNode = 12

// source is where one series of a node comes from: which target is scraped for it, and what it is called.
type source struct {
	target string // "node", "cadvisor", "state", or "service", of which there is one for each pod
	pod    int    // -1 if the series belongs to none
	part   string // container
	family family
	labels []string
}

// node is all series of one machine: those of its node_exporter, of cAdvisor, of kube-state-metrics for its pods, and
// those of its pods themselves. A load is as many machines as it takes.
var node = sync.OnceValue(func() []source {
	var out []source
	add := func(target string, pod int, part string, fs []family) {
		for _, f := range fs {
			for _, v := range f.variants {
				out = append(out, source{target, pod, part, f, v})
			}
		}
	}
	add("node", -1, "", nodeFamilies())
	for pod := range podsPerNode {
		add("cadvisor", pod, "", podFamilies())
		for _, c := range []string{"app", "istio-proxy"} {
			add("cadvisor", pod, c, containerFamilies())
		}
		add("state", pod, "", stateFamilies())
	}
	for pod := range podsPerNode / 2 {
		add("service", pod, "app", serviceFamilies())
	}
	return out
})

// target identifies what a series is scraped from.
func (l Load) target(i int) int {
	s := l.machine()[i%len(l.machine())]
	t := i / len(l.machine()) * (podsPerNode + 3)
	switch s.target {
	case "node":
		return t
	case "cadvisor":
		return t + 1
	case "state":
		return 2 // one for the cluster
	default:
		return t + 3 + s.pod
	}
}

// generation counts how often the pod of a series was replaced before a step.
func (l Load) generation(i, step int) int {
	s := l.machine()[i%len(l.machine())]
	if l.Churn <= 0 || s.pod < 0 {
		return 0
	}
	hours := float64(step) * l.Interval.Hours()
	phase := float64(mix(l.Seed, uint64(i/len(l.machine())*podsPerNode+s.pod))>>11) / (1 << 53)
	return int(hours*l.Churn + phase)
}

// Labels returns the labels of series i as they are at a step.
func (l Load) Labels(i, step int) labels.Labels {
	s, n := l.machine()[i%len(l.machine())], i/len(l.machine())
	ls := make([]string, 0, 32)
	host := fmt.Sprintf("ip-10-%d-%d-%d.eu-west-1.compute.internal", n>>16&255, n>>8&255, n&255)
	ls = append(ls, "__name__", s.family.name, "cluster", "eu-west-1-production", "prometheus", "monitoring/k8s")
	ls = append(ls, s.labels...)
	var pod, namespace, app string
	if s.pod >= 0 {
		h := mix(l.Seed, uint64(n*podsPerNode+s.pod)<<16|uint64(l.generation(i, step)))
		service := (n*podsPerNode + s.pod) % 97
		namespace = fmt.Sprintf("team-%d", service%23)
		app = fmt.Sprintf("service-%d", service)
		pod = fmt.Sprintf("%s-%09x-%05x", app, mix(l.Seed, uint64(service))&0xfffffffff, h&0xfffff)
		ls = append(ls, "namespace", namespace, "pod", pod)
	}
	switch s.target {
	case "node":
		ls = append(ls, "instance", fmt.Sprintf("10.%d.%d.%d:9100", n>>16&255, n>>8&255, n&255), "job", "node-exporter", "namespace", "monitoring",
			"container", "node-exporter", "endpoint", "https", "node", host)
	case "cadvisor":
		uid := fmt.Sprintf("%08x-%04x-4ee0-9c1d-%012x", mix(1, uint64(len(pod))^hash(pod))&0xffffffff, hash(pod)&0xffff, hash(pod)>>16)
		id := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid + ".slice"
		if s.part == "" {
			ls = append(ls, "interface", "eth0")
		} else {
			id += fmt.Sprintf("/cri-containerd-%016x%016x.scope", mix(2, hash(pod+s.part)), mix(3, hash(pod+s.part)))
			ls = append(ls, "container", s.part, "image", "registry.example.com/"+namespace+"/"+app+":v1.24."+fmt.Sprint(len(s.part)))
		}
		ls = append(ls, "id", id, "instance", fmt.Sprintf("10.%d.%d.%d:10250", n>>16&255, n>>8&255, n&255), "job", "kubelet",
			"metrics_path", "/metrics/cadvisor", "endpoint", "https-metrics", "node", host)
	case "state":
		ls = append(ls, "instance", "10.0.0.7:8443", "job", "kube-state-metrics", "uid", fmt.Sprintf("%016x", hash(pod)))
	default:
		ls = append(ls, "instance", fmt.Sprintf("10.%d.%d.%d:8080", n>>8&255, n&255, 16+s.pod), "job", app, "container", s.part, "endpoint", "metrics", "node", host)
	}
	return labels.FromStrings(ls...)
}

// Names returns the names of all metrics of the load.
func (l Load) Names() []string {
	var out []string
	for i := range min(l.Series, len(l.machine())) {
		out = append(out, l.machine()[i].family.name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Clock tells when a target is scraped: at an offset of its own, which a busy server sometimes misses by some ms.
type Clock struct {
	load   Load
	offset []int64
	late   []float64
}

// Clock returns the clock of the load's targets.
func (l Load) Clock() *Clock {
	n := (l.Series/len(l.machine())+1)*(podsPerNode+3) + 3
	c := &Clock{l, make([]int64, n), make([]float64, n)}
	for t := range n {
		r := rand.New(rand.NewPCG(l.Seed, uint64(t)))
		c.offset[t] = r.Int64N(l.Interval.Milliseconds())
		switch p := r.Float64(); {
		case p > 0.95:
			c.late[t] = 1
		case p > 0.7:
			c.late[t] = 0.05
		}
	}
	return c
}

// At is the time in ms of a target's scrape.
func (c *Clock) At(target, step int) int64 {
	t := c.load.Start + int64(step)*c.load.Interval.Milliseconds() + c.offset[target]
	if late := c.late[target]; late > 0 {
		h := mix(c.load.Seed, uint64(target)<<32|uint64(step))
		if float64(h>>11)/(1<<53) < late {
			t += int64(h%21) - 10
		}
	}
	return t
}

// maxValueBytes bounds what is held of values that are made beforehand.
const maxValueBytes = 4 << 30

// Values are the values of a load, made beforehand. Where a load is too long for that they begin anew after Window steps, as
// if everything had been restarted.
type Values struct {
	Window int
	v      []float64
}

// Values makes the values of the load.
func (l Load) Values() *Values {
	v := &Values{Window: max(1, min(l.Steps, maxValueBytes/8/l.Series))}
	v.v = make([]float64, l.Series*v.Window)
	kinds := map[string]codectest.Kind{}
	for _, k := range codectest.Kinds() {
		kinds[k.Name] = k
	}
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() {
			for i := w; i < l.Series; i += workers {
				kind := l.machine()[i%len(l.machine())].family.kind
				k, ok := kinds[kind]
				if !ok {
					panic("no such kind of values: " + kind)
				}
				copy(v.v[i*v.Window:], k.Values(mix(l.Seed, uint64(i)), v.Window))
			}
		})
	}
	group.Wait()
	return v
}

// At is the value of series i at a step.
func (v *Values) At(i, step int) float64 { return v.v[i*v.Window+step%v.Window] }

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) over two numbers.
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 + b + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return h
}
