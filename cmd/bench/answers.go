package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// answer is what a store gave to a range query.
type answer struct {
	series map[string][]point // by their labels
	notes  []string           // warnings and infos, sorted
}

// point is a value at a time, both as they were written.
type point struct{ time, value string }

func parseAnswer(raw []byte) (answer, error) {
	var body struct {
		Status, Error   string
		Warnings, Infos []string
		Data            struct {
			Result []struct {
				Metric map[string]string
				Values [][2]json.RawMessage
			}
		}
	}
	out := answer{series: map[string][]point{}}
	if err := json.Unmarshal(raw, &body); err != nil {
		return out, err
	}
	if body.Status != "success" {
		return out, fmt.Errorf("status %q: %s", body.Status, body.Error)
	}
	for _, s := range body.Data.Result {
		key, err := json.Marshal(s.Metric) // which sorts the names
		if err != nil {
			return out, err
		}
		points := make([]point, len(s.Values))
		for i, v := range s.Values {
			points[i] = point{string(v[0]), strings.Trim(string(v[1]), `"`)}
		}
		if _, twice := out.series[string(key)]; twice {
			return out, fmt.Errorf("two series %s", key)
		}
		out.series[string(key)] = points
	}
	out.notes = slices.Sorted(slices.Values(append(body.Warnings, body.Infos...)))
	return out, nil
}

// difference says where b is first found to be another answer than a, or nothing. Values may be apart by the relative tolerance;
// with none they are to be written alike. apart is the greatest relative distance of values that was let pass.
func (a answer) difference(b answer, tolerance float64) (text string, apart float64) {
	for _, key := range slices.Sorted(maps.Keys(a.series)) {
		want, got := a.series[key], b.series[key]
		if got == nil {
			return fmt.Sprintf("no series %s", key), apart
		}
		for i := range min(len(want), len(got)) {
			if want[i] == got[i] {
				continue
			}
			x, err1 := strconv.ParseFloat(want[i].value, 64)
			y, err2 := strconv.ParseFloat(got[i].value, 64)
			d := math.Abs(x-y) / max(math.Abs(x), math.Abs(y))
			if x == y && tolerance > 0 {
				d = 0 // infinite, or written differently
			}
			if tolerance == 0 || want[i].time != got[i].time && !sameTime(want[i].time, got[i].time) || err1 != nil || err2 != nil || !(d <= tolerance) {
				return fmt.Sprintf("%s has %s at %s, not %s at %s", key, got[i].value, got[i].time, want[i].value, want[i].time), apart
			}
			apart = max(apart, d)
		}
		if len(want) != len(got) {
			return fmt.Sprintf("%s has %d points, not %d", key, len(got), len(want)), apart
		}
	}
	for key := range b.series {
		if _, ok := a.series[key]; !ok {
			return fmt.Sprintf("series %s", key), apart
		}
	}
	return "", apart
}

// sameTime compares times in seconds that may be written differently.
func sameTime(a, b string) bool {
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err1 == nil && err2 == nil && math.Round(x*1000) == math.Round(y*1000)
}
